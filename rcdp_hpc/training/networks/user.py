"""Extractors and readouts of the user's own, named as module:Class, and the contract they are held to.

=========  ==================================  =================================  =========================
part       made as                             given                              returns
=========  ==================================  =================================  =========================
extractor  ``Class(sample_shape)``             (rows, *sample_shape), normalised  (rows, steps, features)
readout    ``Class(steps, features, classes)``  (rows, steps, features)            (rows, classes), the scores
=========  ==================================  =================================  =========================

Both are torch modules; rows may be 0. Batch normalisation is replaced by the package's, whose statistics are those of
all ranks. Layers that draw random numbers (dropout) are refused: what torch draws depends on rank and batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.reductions import KeptShape
from rcdp_hpc.runtime.user_code import load_named
from rcdp_hpc.training.networks.base import Readout
from rcdp_hpc.training.networks.draw import DropoutDraw
from rcdp_hpc.training.networks.norm import SyncBatchNorm
from rcdp_hpc.training.parallel import Alone

TRIAL_ROWS = 2
READOUT_KEY, EXTRACTOR_KEY = "training.readout", "training.extractor.kind"


class UserReadout(Readout):
    """A readout of the user's own over standardised states, ``scores = R(s_1 .. s_T)``.

    Parameters
    ----------
    name : str
        module:Class.
    kept : KeptShape
        How the states of a sample lie in its row; R is given (rows, steps, parts · width).
    classes : int
    parallel : Alone, optional
        How batch statistics are summed over ranks; default: one process.

    Raises
    ------
    InputError
        If the class breaks the contract.
    """

    def __init__(self, name: str, kept: KeptShape, classes: int, parallel: Alone | None = None) -> None:
        super().__init__(kept, dropout=0.0)
        features = kept.parts * kept.width
        self.name, self.classes = name, classes
        self.inner = _made(READOUT_KEY, name, (kept.steps, features, classes), parallel or Alone())
        found = _tried(READOUT_KEY, name, self.inner, (kept.steps, features))
        if found.shape != (TRIAL_ROWS, classes):
            raise _wrong_shape(READOUT_KEY, name, found, f"({TRIAL_ROWS}, {classes}), scores of each class")

    def read(self, standard: torch.Tensor, draw: DropoutDraw | None) -> torch.Tensor:
        """Return class scores (rows, classes) of standardised states (rows, features)."""
        scores: torch.Tensor = self.inner(self.kept.by_step(standard))
        # The trial before the training sees neither its mode nor its batches.
        if scores.shape != (len(standard), self.classes):
            raise _wrong_shape(READOUT_KEY, self.name, scores, f"({len(standard)}, {self.classes}) in training, too")
        return scores


class UserExtractor(nn.Module):
    """A trained extractor of the user's own, T = E(x) (eq. 8).

    Parameters
    ----------
    name : str
        module:Class.
    sample_shape : sequence of int
    parallel : Alone, optional
        How batch statistics are summed over ranks; default: one process.

    Attributes
    ----------
    steps, features : int
        Of the sequences it returns.

    Raises
    ------
    InputError
        If the class breaks the contract.
    """

    def __init__(self, name: str, sample_shape: Sequence[int], parallel: Alone | None = None) -> None:
        super().__init__()
        self.inner = _made(EXTRACTOR_KEY, name, (tuple(sample_shape),), parallel or Alone())
        self.name = name
        found = _tried(EXTRACTOR_KEY, name, self.inner, sample_shape)
        if found.ndim != 3 or len(found) != TRIAL_ROWS or not found.numel():
            raise _wrong_shape(EXTRACTOR_KEY, name, found, f"({TRIAL_ROWS}, steps, features)")
        self.steps, self.features = found.shape[1:]

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Return sequences (rows, steps, features) of samples (rows, *sample_shape)."""
        sequences: torch.Tensor = self.inner(samples)
        expected = (len(samples), self.steps, self.features)
        if sequences.shape != expected:
            raise _wrong_shape(EXTRACTOR_KEY, self.name, sequences, f"{expected} in training, too")
        return sequences


def _made(key: str, name: str, arguments: tuple[Any, ...], parallel: Alone) -> nn.Module:
    """Return an instance of the user's class, ready for several ranks."""
    given = load_named(key, name, "class", "my_networks:Mine")
    if not (isinstance(given, type) and issubclass(given, nn.Module)):
        raise InputError(f"{key} = {name!r}: expected a class derived from torch.nn.Module")
    made = _called(key, name, lambda: given(*arguments), f"{given.__name__}{arguments}")
    _synchronise(made, parallel, key)
    for path, module in made.named_modules():
        if isinstance(module, _DropoutNd):
            raise InputError(
                f"{key} = {name!r}: {path or 'it'} is {type(module).__name__}, whose draws depend on rank and batch, "
                "so that neither ranks nor a resumed training would agree: leave it out"
            )
    return made


def _synchronise(module: nn.Module, parallel: Alone, name: str) -> None:
    """Replace the batch normalisations in a module by those over all ranks."""
    for child_name, child in module.named_children():
        path = f"{name}.{child_name}"
        if isinstance(child, _BatchNorm):
            momentum = 0.1 if child.momentum is None else child.momentum
            setattr(module, child_name, SyncBatchNorm(child.num_features, parallel, path, momentum, child.eps))
        else:
            _synchronise(child, parallel, path)


def _tried(key: str, name: str, module: nn.Module, shape: Sequence[int]) -> torch.Tensor:
    """Return what a module makes of a few rows of zeros; what it does to no rows at all is looked at as well."""
    module.eval()
    with torch.no_grad():
        found = _called(key, name, lambda: module(torch.zeros(TRIAL_ROWS, *shape)), "forward")
        if not isinstance(found, torch.Tensor):
            raise InputError(f"{key} = {name!r}: forward returned {type(found).__name__}: expected one torch.Tensor")
        none = _called(key, name, lambda: module(torch.zeros(0, *shape)), "forward of no rows")
    module.train()
    if len(found) == TRIAL_ROWS and none.shape != (0, *found.shape[1:]):
        raise _wrong_shape(key, name, none, f"{(0, *found.shape[1:])} for no rows")
    return found


def _called(key: str, name: str, call: Callable[[], Any], what: str) -> Any:
    try:
        return call()
    except Exception as error:  # whatever the user's class raises
        raise InputError(f"{key} = {name!r}: {what} failed ({type(error).__name__}: {error})") from None


def _wrong_shape(key: str, name: str, found: torch.Tensor, expected: str) -> InputError:
    return InputError(f"{key} = {name!r}: forward returned the shape {tuple(found.shape)}, expected {expected}")

"""What a class of the user's own is held to before the first step: its making, and a few rows in each mode."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.norm import SyncBatchNorm
from rcdp_hpc.parallel.single import SingleProcessEngine

TRIAL_ROWS = 2
# Others are lazy, or classes of the user's own derived from these.
REPLACED = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def instantiate(key: str, name: str, module_class: Any, arguments: tuple[Any, ...]) -> nn.Module:
    """Return an instance of the user's class, its batch normalisations replaced by the package's.

    These sum over one process until `use_synced_norm`, so that a trial waits for no other rank.

    Parameters
    ----------
    key, name : str
        The configuration's key, for messages, and module:Class.
    arguments : tuple
        What it is made with.

    Raises
    ------
    InputError
        If there is no such class, it cannot be made so, has layers that draw random numbers, or normalisations that
        the package's cannot stand for.
    """
    if not (isinstance(module_class, type) and issubclass(module_class, nn.Module)):
        raise InputError(f"{key} = {name!r}: expected a class derived from torch.nn.Module")
    module: nn.Module = _called(key, name, lambda: module_class(*arguments), f"{module_class.__name__}{arguments}")
    _replace_norms(module, key, name, "")
    for path, part in module.named_modules():
        drawing = _what_draws(part)
        if drawing:
            raise _draws(key, name, f"{path or 'it'} is {drawing}, whose draws")
    return module


def use_synced_norm(module: nn.Module, parallel: SingleProcessEngine) -> None:
    """Let the batch normalisations of a module sum over all ranks."""
    for part in module.modules():
        if isinstance(part, SyncBatchNorm):
            part.parallel = parallel


def dry_run(key: str, name: str, module: nn.Module, shape: Sequence[int]) -> torch.Tensor:
    """Return what a module makes of a few rows of zeros; in training mode and without rows it has to do the same.

    Parameters
    ----------
    key, name : str
        As in `instantiate`.
    module : nn.Module
        As `instantiate` returns it; its state stays as it is, and its mode is that of training.
    shape : sequence of int
        Of a row.

    Returns
    -------
    torch.Tensor, shape (TRIAL_ROWS, ...) where the module keeps to its contract

    Raises
    ------
    InputError
        If it fails, gives another shape in training or without rows, or draws from torch's generator in training.
    """
    with torch.no_grad():
        found = _passed(key, name, module.eval(), shape, "")
        # Here, since lazy layers have no weights before their first rows.
        before = copy.deepcopy(module.state_dict())
        with torch.random.fork_rng(devices=[]):
            generator = torch.get_rng_state()
            in_training = _passed(key, name, module.train(), shape, " in training")
            drawn = not torch.equal(torch.get_rng_state(), generator)
        module.load_state_dict(before)
    if drawn:
        raise _draws(key, name, "forward draws random numbers of torch's own in training, and these")
    if in_training.shape != found.shape:
        raise wrong_shape(key, name, in_training, f"{tuple(found.shape)} in training, too")
    return found


def wrong_shape(key: str, name: str, found: torch.Tensor, expected: str) -> InputError:
    """Return the error of a forward pass that returned another shape than the contract's."""
    return InputError(f"{key} = {name!r}: forward returned the shape {tuple(found.shape)}, expected {expected}")


def _replace_norms(module: nn.Module, key: str, name: str, path: str) -> None:
    """Replace the batch normalisations in a module by the package's, their weights and statistics kept."""
    reason = _not_replaced(module, part=bool(path))
    if reason:
        raise InputError(
            f"{key} = {name!r}: {path or 'it'} is {type(module).__name__}{reason}; expected, as a part of it, torch's "
            "own BatchNorm1d, 2d or 3d with weights, running statistics and momentum, which is made one over all ranks"
        )
    for child_name, child in module.named_children():
        child_path = f"{path}.{child_name}".lstrip(".")
        _replace_norms(child, key, name, child_path)
        if isinstance(child, _BatchNorm):
            setattr(module, child_name, _over_all_ranks(child, f"{key}.{child_path}"))


def _not_replaced(module: nn.Module, part: bool) -> str:
    """Return why the package's batch normalisation cannot stand for a module; empty where it can, or need not."""
    if isinstance(module, _InstanceNorm) and module.track_running_stats:
        return " with track_running_stats=True, whose statistics would be each rank's own"
    if not isinstance(module, _BatchNorm):
        return ""
    if not part or type(module) not in REPLACED:
        return ", a kind of batch normalisation"
    without = {"affine": module.affine, "track_running_stats": module.track_running_stats}
    missing = [f"{option}=False" for option, on in without.items() if not on]
    if module.momentum is None:
        missing.append("momentum=None")
    return f" with {', '.join(missing)}" if missing else ""


def _over_all_ranks(norm: _BatchNorm, name: str) -> SyncBatchNorm:
    """Return the package's batch normalisation that goes on from the weights and statistics of torch's."""
    replaced = SyncBatchNorm(norm.num_features, SingleProcessEngine(), name, norm.momentum or 0.0, norm.eps)
    # The parameters themselves: they may be frozen, or shared with another layer.
    replaced.weight, replaced.bias = norm.weight, norm.bias
    for statistic in ("running_mean", "running_var"):
        getattr(replaced, statistic).copy_(getattr(norm, statistic))
    return replaced


def _what_draws(module: nn.Module) -> str:
    """Return the name of a module that is known to draw from torch's generator, empty for others."""
    kind = type(module).__name__
    if isinstance(module, nn.RReLU) or (isinstance(module, _DropoutNd) and module.p > 0):
        return kind
    # Recurrent layers, attention, and by custom the layers of others.
    share = getattr(module, "dropout", None)
    return f"{kind} with dropout = {share:g}" if isinstance(share, float) and share > 0 else ""


def _draws(key: str, name: str, what: str) -> InputError:
    return InputError(
        f"{key} = {name!r}: {what} depend on rank and batch, so that neither ranks nor a resumed training would agree: "
        "leave it out (against overfitting, loss.l2 and optimizer.kind = 'adamw' draw nothing)"
    )


def _passed(key: str, name: str, module: nn.Module, shape: Sequence[int], mode: str) -> torch.Tensor:
    """Return what a module makes of a few rows; what it does to no rows at all is looked at as well."""
    found = _called(key, name, lambda: module(torch.zeros(TRIAL_ROWS, *shape)), f"forward{mode}")
    if not isinstance(found, torch.Tensor):
        raise InputError(f"{key} = {name!r}: forward{mode} returned {type(found).__name__}: expected one torch.Tensor")
    none = _called(key, name, lambda: module(torch.zeros(0, *shape)), f"forward of no rows{mode}")
    if not isinstance(none, torch.Tensor):
        raise InputError(f"{key} = {name!r}: forward of no rows{mode} returned {type(none).__name__}, not one tensor")
    if found.shape[:1] == (TRIAL_ROWS,) and none.shape != (0, *found.shape[1:]):
        raise wrong_shape(key, name, none, f"{(0, *found.shape[1:])} for no rows{mode}")
    return found


def _called(key: str, name: str, call: Callable[[], Any], what: str) -> Any:
    try:
        return call()
    except Exception as error:  # whatever the user's class raises
        raise InputError(f"{key} = {name!r}: {what} failed ({type(error).__name__}: {error})") from None

"""Creation and dry run of torch modules of the user: both check that a module keeps its contract."""

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
from rcdp_hpc.parallel.base import Strategy
from rcdp_hpc.parallel.single import single_process

TRIAL_ROWS = 2
# Batch normalisations that are replaced; others are lazy, or derived classes with a behaviour of their own.
REPLACED = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def instantiate(key: str, name: str, module_class: Any, arguments: tuple[Any, ...]) -> nn.Module:
    """Return an instance of the user's class, with batch normalisations replaced by `SyncBatchNorm`.

    Until `use_synced_norm` is called these use the statistics of one process, so that a dry run does not wait for other
    ranks.

    Parameters
    ----------
    key, name : str
        Key of the configuration and its value ``module:Class``, for messages.
    module_class : type
        The user's class.
    arguments : tuple
        Arguments of its constructor.

    Raises
    ------
    InputError
        If it is not a torch module, its constructor fails, it has layers that draw random numbers, or normalisations
        that `SyncBatchNorm` cannot replace.
    """
    if not (isinstance(module_class, type) and issubclass(module_class, nn.Module)):
        raise InputError(f"{key} = {name!r}: expected a class derived from torch.nn.Module")
    module: nn.Module = _called(key, name, lambda: module_class(*arguments), f"{module_class.__name__}{arguments}")
    _replace_norms(module, key, name, "")
    for path, part in module.named_modules():
        random_layer = _random_layer(part)
        if random_layer:
            raise _random_error(key, name, f"{path or 'it'} is {random_layer}, whose random numbers")
    return module


def use_synced_norm(module: nn.Module, parallel: Strategy) -> None:
    """Make the batch normalisations of a module use the statistics of all ranks."""
    for part in module.modules():
        if isinstance(part, SyncBatchNorm):
            part.follow(parallel)


def dry_run(key: str, name: str, module: nn.Module, shape: Sequence[int]) -> torch.Tensor:
    """Return the output of a module for a few rows of zeros, after a check of its behaviour.

    The module is called in evaluation and in training mode, and also with no rows.

    Parameters
    ----------
    key, name : str
        As in `instantiate`.
    module : nn.Module
        As `instantiate` returns it. Its state does not change; it is in training mode afterwards.
    shape : sequence of int
        Shape of a row.

    Returns
    -------
    torch.Tensor, shape (TRIAL_ROWS, ...) if the module keeps its contract

    Raises
    ------
    InputError
        If a call fails, the output has another shape in training or without rows, or the module draws from the
        generator of torch in training.
    """
    with torch.no_grad():
        output = _output(key, name, module.eval(), shape, "")
        # Only now, because lazy layers have no weights before their first rows.
        state = copy.deepcopy(module.state_dict())
        with torch.random.fork_rng(devices=[]):
            generator = torch.get_rng_state()
            in_training = _output(key, name, module.train(), shape, " in training")
            drawn = not torch.equal(torch.get_rng_state(), generator)
        module.load_state_dict(state)
    if drawn:
        raise _random_error(key, name, "forward draws random numbers of torch in training, which")
    if in_training.shape != output.shape:
        raise wrong_shape(key, name, in_training, f"{tuple(output.shape)} in training, too")
    return output


def wrong_shape(key: str, name: str, output: torch.Tensor, expected: str) -> InputError:
    """Return the error for a forward pass whose output has not the expected shape."""
    return InputError(f"{key} = {name!r}: forward returned the shape {tuple(output.shape)}, expected {expected}")


def _replace_norms(module: nn.Module, key: str, name: str, path: str) -> None:
    """Replace the batch normalisations in a module by `SyncBatchNorm` with the same weights and statistics."""
    reason = _not_replaced(module, part=bool(path))
    if reason:
        raise InputError(
            f"{key} = {name!r}: {path or 'it'} is {type(module).__name__}{reason}; expected, as a part of it, "
            "BatchNorm1d, 2d or 3d of torch with weights, running statistics and momentum, which is replaced by batch "
            "normalisation over all ranks"
        )
    for child_name, child in module.named_children():
        child_path = f"{path}.{child_name}".lstrip(".")
        _replace_norms(child, key, name, child_path)
        if isinstance(child, _BatchNorm):
            setattr(module, child_name, _over_all_ranks(child, f"{key}.{child_path}"))


def _not_replaced(module: nn.Module, part: bool) -> str:
    """Return why `SyncBatchNorm` cannot replace a module; empty if it can, or if nothing has to be replaced."""
    if isinstance(module, _InstanceNorm) and module.track_running_stats:
        return " with track_running_stats=True, whose statistics would differ between ranks"
    if not isinstance(module, _BatchNorm):
        return ""
    if not part or type(module) not in REPLACED:
        return ", a kind of batch normalisation"
    options = {"affine": module.affine, "track_running_stats": module.track_running_stats}
    missing = [f"{option}=False" for option, on in options.items() if not on]
    if module.momentum is None:
        missing.append("momentum=None")
    return f" with {', '.join(missing)}" if missing else ""


def _over_all_ranks(norm: _BatchNorm, name: str) -> SyncBatchNorm:
    """Return a `SyncBatchNorm` with the parameters and statistics of a batch normalisation of torch."""
    synced = SyncBatchNorm(norm.num_features, single_process(), name, norm.momentum or 0.0, norm.eps)
    # Not copies, because the parameters may be frozen, or shared with another layer.
    synced.weight = norm.weight
    synced.bias = norm.bias
    for statistic in ("running_mean", "running_var"):
        getattr(synced, statistic).copy_(getattr(norm, statistic))
    return synced


def _random_layer(module: nn.Module) -> str:
    """Return the name of a module that draws from the generator of torch; empty for other modules."""
    kind = type(module).__name__
    if isinstance(module, nn.RReLU) or (isinstance(module, _DropoutNd) and module.p > 0):
        return kind
    # Recurrent layers and attention have this attribute, and so have many layers of other packages.
    rate = getattr(module, "dropout", None)
    return f"{kind} with dropout = {rate:g}" if isinstance(rate, float) and rate > 0 else ""


def _random_error(key: str, name: str, what: str) -> InputError:
    return InputError(
        f"{key} = {name!r}: {what} depend on rank and batch, so that neither ranks nor a resumed training would agree: "
        "remove it (against overfitting, loss.l2 and optimizer.kind = 'adamw' need no random numbers)"
    )


def _output(key: str, name: str, module: nn.Module, shape: Sequence[int], mode: str) -> torch.Tensor:
    """Return the output of a module for a few rows, after a check of its output for no rows."""
    output = _called(key, name, lambda: module(torch.zeros(TRIAL_ROWS, *shape)), f"forward{mode}")
    if not isinstance(output, torch.Tensor):
        raise InputError(f"{key} = {name!r}: forward{mode} returned {type(output).__name__}: expected one torch.Tensor")
    none = _called(key, name, lambda: module(torch.zeros(0, *shape)), f"forward of no rows{mode}")
    if not isinstance(none, torch.Tensor):
        raise InputError(f"{key} = {name!r}: forward of no rows{mode} returned {type(none).__name__}, not one tensor")
    if output.shape[:1] == (TRIAL_ROWS,) and none.shape != (0, *output.shape[1:]):
        raise wrong_shape(key, name, none, f"{(0, *output.shape[1:])} for no rows{mode}")
    return output


def _called(key: str, name: str, call: Callable[[], Any], what: str) -> Any:
    try:
        return call()
    except Exception as error:  # whatever the user's class raises
        raise InputError(f"{key} = {name!r}: {what} failed ({type(error).__name__}: {error})") from None

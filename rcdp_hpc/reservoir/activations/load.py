"""Loading the activation that a configuration names, and checking that it keeps the contract of `Activation`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from rcdp_hpc.config.choices import ACTIVATIONS, ChoiceTable
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.activations.base import Activation, FunctionActivation
from rcdp_hpc.runtime.user_code import load_choice

# Arguments of the check; a bound is also checked far outside of them.
LARGEST, FAR = 4.0, 1e4
# Functions and classes that passed the check in this process.
_checked: WeakSet[Any] = WeakSet()


def load_activation(name: str, table: ChoiceTable = ACTIVATIONS) -> Activation:
    """Return an activation of the table or the user's own one, after a check on a few numbers.

    Parameters
    ----------
    name : str
        A name of the table, ``module:function`` or ``module:Class``. A class that is not derived from `Activation`,
        such as ``torch.nn:SELU``, must have instances that are functions.
    table : ChoiceTable
        The activations of ``reservoir.activation`` or of ``readout.activation``, whose key messages name.

    Raises
    ------
    InputError
        If it cannot be imported or created, or breaks the contract of `Activation`.
    """
    target = load_choice(table, name)
    setting = f"{table.key} = {name!r}"
    activation = _instance(name, setting, target)
    if target not in _checked:
        _check(setting, activation)
        _checked.add(target)
    return activation


def _instance(name: str, setting: str, target: Any) -> Activation:
    if isinstance(target, type):
        try:
            target = target()
        except Exception as error:  # whatever the user's class raises
            raise _broken(
                setting, f"{name}() failed ({type(error).__name__}: {error}); expected no arguments"
            ) from None
    if isinstance(target, Activation):
        return target
    if isinstance(target, nn.Module):
        target = target.eval().requires_grad_(False)
    if not callable(target):
        raise _broken(
            setting, "instances of the class are not functions; expected rcdp_hpc.reservoir.activations.Activation"
        )
    return FunctionActivation(target)


def _check(setting: str, activation: Activation) -> None:
    x = torch.linspace(-LARGEST, LARGEST, 33, device="cpu").view(3, 11)
    with torch.no_grad():
        argument = x.clone()
        y = _result(setting, activation, argument)
        if not torch.equal(argument, x):
            raise _broken(setting, "it changes its argument; expected a new tensor")
        if not bool(torch.isfinite(y).all()):
            raise _broken(setting, f"f({float(x[~torch.isfinite(y)][0]):g}) is not finite")
        if not torch.equal(_result(setting, activation, x.clone()), y):
            raise _broken(setting, "it returns other values at the second call; expected the same")
        single = [_result(setting, activation, x[row : row + 1, 5:6].clone()) for row in range(3)]
        if not torch.allclose(torch.cat(single), y[:, 5:6], rtol=1e-5, atol=1e-6):
            raise _broken(setting, "f(x) of a number depends on the other numbers; expected each number by itself")
        in_place = activation.apply_(x.clone())
        if not isinstance(in_place, Tensor) or not torch.allclose(in_place, y, rtol=1e-5, atol=1e-6):
            raise _broken(setting, "apply_ returns other values than a call")
        _check_bound(setting, activation, x)


def _check_bound(setting: str, activation: Activation, x: Tensor) -> None:
    bound = activation.bound
    if bound is None:
        return
    if not isinstance(bound, int | float) or not bound > 0:
        raise _broken(setting, f"bound = {bound!r}; expected a number above 0, or None")
    largest = max(float(_result(setting, activation, scale * x).abs().max()) for scale in (1.0, FAR))
    if not largest <= bound:
        raise _broken(
            setting, f"bound = {bound:g}, but abs(f(x)) reaches {largest:g}; expected an upper bound, or None"
        )


def _result(setting: str, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    try:
        y = function(x)
    except Exception as error:  # whatever the user's function raises
        raise _broken(
            setting, f"f(x) failed for x of shape {tuple(x.shape)} ({type(error).__name__}: {error})"
        ) from None
    if not isinstance(y, Tensor) or (y.shape, y.dtype) != (x.shape, x.dtype):
        result = f"a tensor {tuple(y.shape)}, {y.dtype}" if isinstance(y, Tensor) else type(y).__name__
        raise _broken(setting, f"f(x) returned {result}; expected a tensor {tuple(x.shape)}, {x.dtype}, as x")
    return y


def _broken(setting: str, what: str) -> InputError:
    return InputError(f"{setting}: {what} (docs/extending.md)")

"""From a value of ``data.balance`` to its method and the facts about it."""

from __future__ import annotations

from dataclasses import replace

from rcdp_hpc.config.choices import BALANCING_METHODS, BalancingChoice, balancing_choice
from rcdp_hpc.data.balancing.base import BalancingMethod
from rcdp_hpc.runtime.user_code import load_choice


def load_method(name: str) -> BalancingMethod:
    """Import and create a balancing method.

    Parameters
    ----------
    name : str
        A value of ``data.balance``.

    Raises
    ------
    InputError
        If a user's class cannot be imported or has no method ``fit_resample``.
    """
    method_class = load_choice(BALANCING_METHODS, name)
    if isinstance(method_class, type) and issubclass(method_class, BalancingMethod):
        return method_class()
    # Imported here: scikit-learn takes seconds to load.
    from rcdp_hpc.data.balancing.user_class import UserMethod

    return UserMethod(name, method_class)


def method_choice(name: str) -> BalancingChoice:
    """Return the facts about a value of ``data.balance``; a user's class is imported.

    `balancing_choice` imports no class, but does not know which targets a user's class can reach.

    Raises
    ------
    InputError
        As `load_method`.
    """
    choice = balancing_choice(name)
    if name in BALANCING_METHODS:
        return choice
    from rcdp_hpc.data.balancing.user_class import UserMethod, targets_of

    method = load_method(name)
    return replace(choice, targets=targets_of(method.resampler_class)) if isinstance(method, UserMethod) else choice

"""From a value of ``data.balance`` to its method and the facts about it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rcdp_hpc.config.choices import BALANCING_METHODS, BalancingChoice, balancing_choice
from rcdp_hpc.data.balancing.base import BalancingMethod
from rcdp_hpc.runtime.user_code import load_choice

if TYPE_CHECKING:
    from rcdp_hpc.data.balancing.user_class import UserMethod


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
    if name not in BALANCING_METHODS:
        return _user_method(name)
    method: BalancingMethod = load_choice(BALANCING_METHODS, name)()
    return method


def method_choice(name: str) -> BalancingChoice:
    """Return the facts about a value of ``data.balance``; a user's class is imported.

    `balancing_choice` imports no class, but does not know which targets a user's class can reach.

    Raises
    ------
    InputError
        As `load_method`.
    """
    choice = balancing_choice(name)
    return choice if name in BALANCING_METHODS else replace(choice, targets=_user_method(name).targets)


def _user_method(name: str) -> UserMethod:
    # Imported here: scikit-learn takes seconds to load.
    from rcdp_hpc.data.balancing.user_class import UserMethod

    return UserMethod(name, load_choice(BALANCING_METHODS, name))

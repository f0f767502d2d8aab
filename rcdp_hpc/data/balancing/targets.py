"""How many training rows each class should have."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rcdp_hpc.config.choices import BalancingChoice
from rcdp_hpc.errors import InputError


def class_targets(
    counts: Sequence[int],
    classes: Sequence[str],
    method: BalancingChoice,
    ratio: float = 1.0,
    wanted: Sequence[int] = (),
) -> list[int]:
    """Return the rows that each class should have after balancing.

    A class without rows, as in a fold that holds out all of them, gets none.

    Parameters
    ----------
    counts : sequence of int
        Rows of each class before balancing.
    classes : sequence of str
        Names of the classes.
    method : BalancingChoice
        The balancing method; its ``targets`` decide whether it adds or removes rows.
    ratio : float
        ``data.balance_ratio``: smallest class over largest.
    wanted : sequence of int
        ``data.balance_counts``: rows of each class, 0 to leave a class as it is; empty to use the ratio.

    Returns
    -------
    list of int

    Raises
    ------
    InputError
        If `wanted` has not one number for each class, or one that the method cannot reach.

    Examples
    --------
    >>> from rcdp_hpc.config.choices import balancing_choice
    >>> class_targets([100, 60, 10], "abc", balancing_choice("smote"), 0.5)
    [100, 60, 50]
    >>> class_targets([100, 60, 10], "abc", balancing_choice("random_under"), 0.5)
    [20, 20, 10]
    """
    if method.targets == "none":
        return list(counts)
    if not wanted:
        return _targets_of_ratio(counts, method, ratio)
    if len(wanted) != len(classes):
        raise InputError(
            f"data.balance_counts has {len(wanted)} numbers, but the source has {len(classes)} classes; give one each."
        )
    wanted = [target if count or target < 0 else 0 for count, target in zip(counts, wanted, strict=True)]
    _refuse_unreachable(counts, classes, method, wanted)
    if min(wanted) < 0:
        raise InputError(f"data.balance_counts = {list(wanted)}: give 0 or more rows for each class.")
    return [target or count for count, target in zip(counts, wanted, strict=True)]


def _targets_of_ratio(counts: Sequence[int], method: BalancingChoice, ratio: float) -> list[int]:
    if method.targets == "fewer":
        least = min(count for count in counts if count)
        return [min(count, math.floor(least / ratio)) for count in counts]
    most = math.ceil(max(counts) * ratio)
    return [max(count, most) if count else 0 for count in counts]


def _refuse_unreachable(
    counts: Sequence[int], classes: Sequence[str], method: BalancingChoice, wanted: Sequence[int]
) -> None:
    """Raise an `InputError` if a class needs rows added, or removed, by a method that cannot do so."""
    if method.targets == "any":
        return
    removes = method.targets == "fewer"
    more = [label for label, target in enumerate(wanted) if target > counts[label]]
    fewer = [label for label, target in enumerate(wanted) if target < counts[label] and target != 0]
    wrong, other = (more, fewer) if removes else (fewer, more)
    if not wrong:
        return
    label = wrong[0]
    limit, way_out = ("adds none", "random_over") if removes else ("removes none", "random_under")
    remedy = "set 0 to leave the class as it is"
    if min(wanted) >= 0 and not other:
        remedy = f"set data.balance = '{way_out}', or {remedy}"
    raise InputError(
        f"data.balance_counts: class {classes[label]} has {counts[label]} training rows and should have "
        f"{wanted[label]}, but data.balance = '{method.name}' {limit}: {remedy}."
    )

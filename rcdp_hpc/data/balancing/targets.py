"""How many training rows each class shall have."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rcdp_hpc.errors import InputError


def class_targets(
    counts: Sequence[int], classes: Sequence[str], method: str, ratio: float = 1.0, wanted: Sequence[int] = ()
) -> list[int]:
    """Return the rows that each class shall have after balancing.

    A class without rows, as in a fold that holds all of them out, stays without.

    Parameters
    ----------
    counts : sequence of int
        Rows of each class before.
    classes : sequence of str
        Names of the classes.
    method : str
        ``data.balance``: "random_under" takes rows away, every other method adds some.
    ratio : float
        ``data.balance_ratio``: smallest class over largest.
    wanted : sequence of int
        ``data.balance_counts``: rows of each class, 0 for as many as there are; empty to go by the ratio.

    Returns
    -------
    list of int

    Raises
    ------
    InputError
        If `wanted` has not one number for each class, or one that the method cannot reach.

    Examples
    --------
    >>> class_targets([100, 60, 10], "abc", "smote", 0.5)
    [100, 60, 50]
    >>> class_targets([100, 60, 10], "abc", "random_under", 0.5)
    [20, 20, 10]
    """
    if not wanted:
        if method == "random_under":
            least = min(count for count in counts if count)
            return [min(count, math.floor(least / ratio)) for count in counts]
        most = math.ceil(max(counts) * ratio)
        return [max(count, most) if count else 0 for count in counts]
    if len(wanted) != len(classes):
        raise InputError(
            f"data.balance_counts has {len(wanted)} numbers, but the source has {len(classes)} classes; give one each."
        )
    wanted = [target if count or target < 0 else 0 for count, target in zip(counts, wanted, strict=True)]
    more = [label for label, target in enumerate(wanted) if target > counts[label]]
    fewer = [label for label, target in enumerate(wanted) if target < counts[label] and target != 0]
    wrong = more if method == "random_under" else fewer
    if wrong:
        label = wrong[0]
        other = fewer if method == "random_under" else more
        does, way_out = (
            ("adds none", "random_over") if method == "random_under" else ("takes none away", "random_under")
        )
        remedy = "set 0 to leave the class as it is"
        if min(wanted) >= 0 and not other:
            remedy = f"take data.balance = '{way_out}', or {remedy}"
        raise InputError(
            f"data.balance_counts: class {classes[label]} has {counts[label]} training rows and should have "
            f"{wanted[label]}, but data.balance = '{method}' {does}: {remedy}."
        )
    if min(wanted) < 0:
        raise InputError(f"data.balance_counts = {list(wanted)}: give 0 or more rows for each class.")
    return [target or count for count, target in zip(counts, wanted, strict=True)]

"""How many training rows each class shall have."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rcdp_hpc.errors import InputError


def class_targets(
    counts: Sequence[int], classes: Sequence[str], method: str, ratio: float = 1.0, wanted: Sequence[int] = ()
) -> list[int]:
    """Return the rows that each class shall have after balancing.

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
            return [min(count, math.floor(min(counts) / ratio)) for count in counts]
        return [max(count, math.ceil(max(counts) * ratio)) for count in counts]
    if len(wanted) != len(classes):
        raise InputError(
            f"data.balance_counts has {len(wanted)} numbers, but the source has {len(classes)} classes; give one each."
        )
    for name, count, target in zip(classes, counts, wanted, strict=True):
        if target < 0 or (target and (target > count if method == "random_under" else target < count)):
            change = "adds none: take 'smote'" if method == "random_under" else "takes none away: take 'random_under'"
            raise InputError(
                f"data.balance_counts: class {name} has {count} training rows and shall have {target}, but "
                f"data.balance = '{method}' {change}, or set 0 to leave the class as it is."
            )
    return [target or count for count, target in zip(counts, wanted, strict=True)]

"""Criteria by which a classifier is evaluated and chosen (docs/metrics.md).

The table `rcdp_hpc.config.choices.criteria.CRITERIA` names them. Values are those of scikit-learn and
imbalanced-learn; a criterion that is undefined is NaN, with a reason, and never 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from rcdp_hpc.config.choices.criteria import CRITERIA, RECALL
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.criteria.base import Criterion
from rcdp_hpc.model.criteria.confusion import Recall
from rcdp_hpc.runtime.user_code import load_choice

__all__ = ["Criterion", "all_criteria", "criterion"]


def criterion(name: str, classes: Sequence[str]) -> Criterion:
    """Return a criterion.

    Parameters
    ----------
    name : str
        A name of the table, or ``recall:CLASS``.
    classes : sequence of str
        Class names, in the order of the class numbers.

    Raises
    ------
    InputError
        If it is the recall of a class that does not exist, or no criterion.
    """
    if name in CRITERIA:
        made: Criterion = load_choice(CRITERIA, name)(name, classes)
        return made
    wanted = name.removeprefix(RECALL)
    if not name.startswith(RECALL):
        raise InputError(f"{name!r} is not a criterion: expected one of {', '.join(CRITERIA.names)}, or recall:CLASS")
    if wanted not in classes:
        known = ", ".join(classes[:20]) + (f" and {len(classes) - 20} more" if len(classes) > 20 else "")
        raise InputError(f"{name}: there is no class {wanted!r}. The classes are {known}.")
    return Recall(name, classes)


def all_criteria(classes: Sequence[str]) -> list[Criterion]:
    """Return the criteria of the table, in its order."""
    return [criterion(name, classes) for name in CRITERIA.names]

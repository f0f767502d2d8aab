"""What to set: the cheapest way that is measurably better than no balancing and not measurably worse than the best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rcdp_hpc.balance_check.comparison import Compared, Difference

# Returns the differences of two methods: the second minus the first.
DifferencesOf = Callable[[Compared, Compared], dict[str, Difference]]


@dataclass(frozen=True)
class Verdict:
    """The end of a check.

    Attributes
    ----------
    method : str
        The method to use.
    matters : bool
        Whether a method is measurably better than no balancing.
    sentence : str
    """

    method: str
    matters: bool
    sentence: str


def chosen_method(results: list[Compared], criterion: str, differences_of: DifferencesOf) -> Compared:
    """Return the method to use; `results` are in the order of the cost of a training, the first without balancing."""
    better = [one for one in results[1:] if one.differences[criterion].better]
    if not better:
        return results[0]
    best = max(better, key=lambda one: one.values[criterion])
    for one in better:
        if one is best or not differences_of(one, best)[criterion].better:
            return one
    return best


def verdict(
    results: list[Compared],
    criterion: str,
    settings: dict[str, dict[str, Any]],
    current: str | None,
    differences_of: DifferencesOf,
) -> Verdict:
    """Return what to set, as one sentence.

    Parameters
    ----------
    results : list of Compared
    criterion : str
        The measure that decides.
    settings : dict of str to dict
        By method: the keys of the configuration and their values.
    current : str or None
        The method that the configuration has now; None if it is not one of them.
    differences_of : callable
    """
    used = chosen_method(results, criterion, differences_of)
    name = used.answers.name
    keys = ", ".join(f"{key} = {_toml(value)}" for key, value in settings[name].items())
    words = criterion.replace("_", " ")
    if used is results[0]:
        return Verdict(name, False, _does_not_matter(results, words, criterion, keys, current))
    gain = used.differences[criterion]
    others = [
        f"{other.replace('_', ' ')} by {_points(used.differences[other].value)}"
        for other in used.differences
        if other != criterion and used.differences[other].worse
    ]
    price = f"; it lowers {' and '.join(others)}" if others else ""
    done = "; the configuration has that already" if current == name else ""
    return Verdict(
        name, True,
        f"Set {keys}: {words} rises by {_points(gain.value)} ({_interval(gain)}) over no balancing{price}{done}.",
    )  # fmt: skip


def _does_not_matter(results: list[Compared], words: str, criterion: str, keys: str, current: str | None) -> str:
    worse = [one for one in results[1:] if one.differences[criterion].worse]
    harmful = next((one for one in worse if one.answers.name == current), None)
    if harmful is not None:
        loss = harmful.differences[criterion]
        return (
            f"Set {keys}: {harmful.answers.name}, which the configuration has, lowers {words} by "
            f"{_points(-loss.value)} (difference {_interval(loss)}), and no other way raises it measurably."
        )
    text = f"It does not matter here as far as these rows show: no way raises {words} measurably"
    best = max(results[1:], key=lambda one: one.values[criterion], default=None)
    if best is not None:
        most = best.differences[criterion]
        text += f" (the most is {best.answers.name} with {_points(most.value)}, {_interval(most)})"
    return f"{text}; the cheapest is {keys}."


def _points(value: float) -> str:
    return f"{100 * value:.1f} points"


def _interval(difference: Difference) -> str:
    low, high = difference.interval
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)

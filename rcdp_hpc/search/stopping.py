"""Conditions that end a search before its last generation."""

from __future__ import annotations

from rcdp_hpc.config import SearchSection


def reason_to_end(
    search: SearchSection, generations: int, evaluations: int, best_generation: int, seconds: float
) -> str:
    """Return why the search ends now; empty if it continues.

    The conditions are checked after complete generations only, so that the trajectory up to there is the same without
    them.

    Parameters
    ----------
    search : SearchSection
    generations : int
        Complete generations.
    evaluations : int
        Evaluated candidates, repetitions not counted.
    best_generation : int
        Generation in which the best candidate occurred first.
    seconds : float
        Wall-clock time of the search so far, all jobs together.
    """
    if generations == 0:
        return ""
    if search.stop_evaluations and evaluations >= search.stop_evaluations:
        return f"{evaluations} evaluations of search.stop_evaluations = {search.stop_evaluations}"
    if search.stop_stagnation and generations - best_generation >= search.stop_stagnation:
        return f"no better candidate since generation {best_generation}"
    if search.stop_seconds and seconds * (generations + 1) / generations > search.stop_seconds:
        return (
            f"{seconds:.0f} s used of search.stop_seconds = {search.stop_seconds:g}, too little for another generation"
        )
    return ""

"""When a search ends before its last generation."""

from __future__ import annotations

from rcdp_hpc.config import SearchSection


def reason_to_end(
    search: SearchSection, generations: int, evaluations: int, best_generation: int, seconds: float
) -> str:
    """Return why the search ends here, empty where it goes on.

    Generations are never cut: what ends the search is looked at after each of them, so that the trajectory up to
    there is that of a search without limits.

    Parameters
    ----------
    search : SearchSection
    generations : int
        Complete ones.
    evaluations : int
        Different candidates evaluated.
    best_generation : int
        The one in which the best candidate came up.
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

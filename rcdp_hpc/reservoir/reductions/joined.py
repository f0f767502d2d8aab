"""The reductions that ``reservoir.reduction`` lists, joined in this order."""

from __future__ import annotations

from functools import cache

from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.config.choices import TABLES
from rcdp_hpc.reservoir.reductions.base import Reduction
from rcdp_hpc.runtime.user_code import load_choice


@cache
def reduction_class(name: str) -> type[Reduction]:
    """Return the class of a reduction of the table."""
    kind: type[Reduction] = load_choice(TABLES["reservoir.reduction"], name)
    return kind


class JoinedReductions:
    """All reductions of one reservoir's states over a block of sequences.

    Parameters
    ----------
    settings : ReservoirSection
    out : torch.Tensor, shape (batch, values, nodes)
        Where the result is written.
    steps : int
        Steps of the longest sequence.
    lengths : list of int, optional
        Length of each sequence, longest first; None if all have `steps`.
    """

    def __init__(self, settings: ReservoirSection, out: Tensor, steps: int, lengths: list[int] | None) -> None:
        self.reductions: list[Reduction] = []
        shared: dict[type, object] = {}
        start = 0
        for name in settings.reduction:
            kind = reduction_class(name)
            # "all" is the only reduction then, and has the values of the longest sequence of all blocks.
            stop = out.shape[1] if name == "all" else start + kind.values(settings, steps)
            self.reductions.append(kind(settings, out[:, start:stop], steps, lengths, shared))
            start = stop

    def take(self, step: int, states: Tensor, rows: int) -> None:
        """Take the states after a step, shape (batch, nodes), of which the first `rows` sequences have this step."""
        for reduction in self.reductions:
            reduction.take(step, states, rows)

    def finish(self) -> None:
        """Write values that are only known after the last step."""
        for reduction in self.reductions:
            reduction.finish()

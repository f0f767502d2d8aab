"""The reduction ``segments``: means over equal parts of each sequence."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.kept_steps import segment_bounds
from rcdp_hpc.reservoir.reductions.base import Reduction


class Segments(Reduction):
    """Means over ``reservoir.segments`` equal parts of the steps of each sequence (see `segment_bounds`).

    Sequences are longest first, so at any step those within segment j are neighbours: rows first[j] to last[j].
    """

    def begin(self, steps: int, lengths: list[int] | None, shared: dict[type, object]) -> None:
        """Find the segments that each step belongs to."""
        device, segments = self.out.device, self.out.shape[1]
        starts, stops = segment_bounds(self.settings, np.array([steps] * len(self.out) if lengths is None else lengths))
        self._first = _rows_after(starts, steps)
        self._last = _rows_after(stops, steps)
        self._sums = torch.zeros(segments, len(self.out), self.out.shape[2], device=device)
        counts = (stops - starts).T.astype(np.float32)
        if lengths is None:
            self._counts = torch.empty(segments, 1, device=device)
            for segment, count in zip(self._counts, counts[:, 0].tolist(), strict=True):
                segment.fill_(count)
        else:
            self._counts = torch.from_numpy(counts).to(device)

    @staticmethod
    def values(settings: ReservoirSection, steps: int | None) -> int:
        """Return the number of segments."""
        return settings.segments

    def take(self, step: int, states: Tensor, rows: int) -> None:
        """Add the states to the segments that this step belongs to."""
        for sums, first, last in zip(self._sums, self._first[step], self._last[step], strict=True):
            if first < last:
                sums[first:last] += states[first:last]

    def finish(self) -> None:
        """Write the means."""
        self.out.copy_((self._sums / self._counts[..., None]).transpose(0, 1))

    @staticmethod
    def of_states(settings: ReservoirSection, states: Tensor, values: int) -> Tensor:
        """Return the means."""
        starts, stops = segment_bounds(settings, np.array([states.shape[1]]))
        bounds = zip(starts[0].tolist(), stops[0].tolist(), strict=True)
        return torch.stack([states[:, start:stop].mean(1) for start, stop in bounds], dim=1)


def _rows_after(bounds: NDArray[np.int64], steps: int) -> list[list[int]]:
    """Return, by step and segment, the number of rows whose bound is after the step; bounds fall from row to row."""
    at = np.arange(steps)
    return np.stack([np.searchsorted(-bound, -at, side="left") for bound in bounds.T], axis=1).tolist()

"""How a sequence is read: forwards or backwards, by halves, through a window."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.kept_steps import scan_features


@dataclass(frozen=True)
class Scan:
    """One reading of the sequence u_1 .. u_T.

    Attributes
    ----------
    name : str
        "forward", "rows" (first half of the features) or "columns" (second half), or one of them + "-backward".
    window : int
        Steps seen at once: the input at t is [u_t, u_(t-1), ...], zeros before the first step.
    """

    name: str
    window: int

    @property
    def backward(self) -> bool:
        """Whether the last step comes first."""
        return self.name.endswith("backward")

    def features(self, features: int) -> int:
        """Return how many inputs a neuron has at a step when a step of the sequence has `features`."""
        return scan_features(self.name, self.window, features)

    def read(self, u: Tensor, lengths: Tensor | None, turned: bool = False) -> Tensor:
        """Return the sequences in reading order, each turned within its length, shape (batch, steps, features).

        Parameters
        ----------
        u : torch.Tensor, shape (batch, steps, features)
        lengths : torch.Tensor, shape (batch,), int64, optional
        turned : bool
            Read in the opposite direction: the second half of a bidirectional reservoir.
        """
        half = u.shape[2] // 2
        if self.name.startswith("rows"):
            u = u[..., :half]
        elif self.name.startswith("columns"):
            u = u[..., half:]
        if self.backward == turned:
            return u
        if lengths is None:
            return u.flip(1)
        places = (lengths[:, None] - 1 - torch.arange(u.shape[1], device=u.device)).clamp_min(0)
        return u.gather(1, places[..., None].expand_as(u))

    def at(self, u: Tensor, step: int, rows: int) -> list[Tensor]:
        """Return what the first `rows` sequences show at a step: this step's input, then those before it.

        Parameters
        ----------
        u : torch.Tensor, shape (steps, batch, features)
            Sequences in reading order, steps first.
        step, rows : int

        Returns
        -------
        list of torch.Tensor, shape (rows, features)
            As many as the window is wide, fewer at the beginning.
        """
        return [u[step - back, :rows] for back in range(min(self.window, step + 1))]


def scans_of(settings: ReservoirSection) -> list[Scan]:
    """Return the readings that the settings ask for: one forward where none is named."""
    return [Scan(name, settings.window) for name in settings.scans or ["forward"]]

"""Scans: a sequence read forwards or backwards, by halves of its features, through a window of steps."""

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
        "forward", "backward", "rows" (first half of the features), "columns" (second half), "rows-backward" or
        "columns-backward".
    window : int
        Steps that a neuron reads at once: the input at t is [u_t, u_(t-1), ...], with zeros before the first step.
    """

    name: str
    window: int

    @property
    def backward(self) -> bool:
        """Whether the last step is read first."""
        return self.name.endswith("backward")

    def features(self, features: int) -> int:
        """Return the inputs of a neuron per step, for a sequence with `features` features per step."""
        return scan_features(self.name, self.window, features)

    def read(self, u: Tensor, lengths: Tensor | None, turned: bool = False) -> Tensor:
        """Return the sequences in reading order, each reversed within its length.

        Parameters
        ----------
        u : torch.Tensor, shape (batch, steps, features)
        lengths : torch.Tensor, shape (batch,), int64, optional
        turned : bool
            Read in the opposite direction, for the second half of a bidirectional reservoir.

        Returns
        -------
        torch.Tensor, shape (batch, steps, features or half of them)
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
        positions = (lengths[:, None] - 1 - torch.arange(u.shape[1], device=u.device)).clamp_min(0)
        return u.gather(1, positions[..., None].expand_as(u))

    def at(self, u: Tensor, step: int, rows: int) -> list[Tensor]:
        """Return the input of the first `rows` sequences at a step: that of the step, then those of earlier steps.

        Parameters
        ----------
        u : torch.Tensor, shape (steps, batch, features)
            Sequences in reading order, steps first.
        step : int
        rows : int

        Returns
        -------
        list of torch.Tensor, shape (rows, features)
            `window` tensors, fewer at the first steps.
        """
        return [u[step - back, :rows] for back in range(min(self.window, step + 1))]


def scans_of(settings: ReservoirSection) -> list[Scan]:
    """Return the scans of the settings: one forward scan if none is named."""
    return [Scan(name, settings.window) for name in settings.scans or ["forward"]]

"""What is kept of the states of a sequence, computed on the way: no more than one step's states is ever held.

=============  ===========================================  ==============================
reduction      values per neuron                            setting
=============  ===========================================  ==============================
last           the state after the sequence's own last step ``states = 1``
spaced         m states, equally spaced, the last included  ``states = m``
chosen         the states after the steps named             ``steps = [...]``
all            the states after all steps                   ``reduction = "all"``
mean           mean over the steps                          ``reduction = "mean"``
mean, std      mean and (population) standard deviation     ``reduction = "mean_std"``
=============  ===========================================  ==============================

Steps of the warm-up count for nothing in all of them, and so do steps beyond a sequence's length. Where all states are
kept, those of a shorter sequence are put at the end, with zeros before them: the last one is each sequence's own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.kept_steps import steps_of
from rcdp_hpc.reservoir.scans import scans_of


class KeptShape(NamedTuple):
    """How what is kept of a sample lies in its row of values: by part, then step, then neuron.

    Attributes
    ----------
    parts : int
        Reservoirs side by side and stacked.
    steps : int
        Values kept of each neuron, earliest first.
    width : int
        Neurons; features of a step where there is no reservoir.
    raw : bool
        Whether these are inputs that no reservoir has read.
    """

    parts: int
    steps: int
    width: int
    raw: bool = False

    @property
    def features(self) -> int:
        """Length of the row."""
        return self.parts * self.steps * self.width

    def by_step(self, rows: Tensor) -> Tensor:
        """Return rows of values (rows, features) as sequences (rows, steps, parts * width)."""
        apart = rows.view(len(rows), self.parts, self.steps, self.width)
        return apart.transpose(1, 2).reshape(len(rows), self.steps, self.parts * self.width)


def values_per_neuron(settings: ReservoirSection, steps: int | None = None) -> int:
    """Return how many values of each neuron are kept; `steps` are those of the longest sequence.

    Raises
    ------
    InputError
        If all states are kept and `steps` is not known.
    """
    if settings.reduction == "all":
        if steps is None:
            raise InputError("reservoir.reduction = 'all' needs the steps of the longest sequence: give steps")
        return steps
    if settings.reduction == "states":
        return len(settings.steps) or settings.states
    return {"mean": 1, "mean_std": 2}[settings.reduction]


def kept_shape(settings: ReservoirSection, steps: int | None = None) -> KeptShape:
    """Return how what is kept of a sample lies in its row; `steps` and errors as `values_per_neuron`."""
    parts = len(scans_of(settings)) * (2 if settings.bidirectional else 1) * settings.layers
    return KeptShape(parts, values_per_neuron(settings, steps), settings.nodes)


class Reduction:
    """The reduction of one reservoir's states.

    Parameters
    ----------
    settings : ReservoirSection
    out : torch.Tensor, shape (batch, values, nodes)
        Where the result is written.
    steps : int
        Steps of the longest sequence.
    lengths : list of int, optional
        Length of each sequence, longest first; None where all have `steps`.
    """

    def __init__(self, settings: ReservoirSection, out: Tensor, steps: int, lengths: list[int] | None) -> None:
        self.settings, self.out = settings, out
        self.count = 0
        self._places: dict[int, list[tuple[int, Tensor | None]]] = {}
        self._lengths = lengths
        if settings.reduction == "all":
            self._begin_all(steps, lengths)
        elif settings.reduction != "states":
            self._mean = torch.zeros(out.shape[0], out.shape[2], device=out.device)
            self._squares = torch.zeros_like(self._mean) if settings.reduction == "mean_std" else None
        elif lengths is None:
            for place, step in enumerate(steps_of(settings, steps)):
                self._places.setdefault(step, []).append((place, None))
        else:
            self._place_rows(lengths)

    def _begin_all(self, steps: int, lengths: list[int] | None) -> None:
        """Note which step of the result each row's first state is."""
        ends = torch.tensor(lengths or [steps] * len(self.out), device=self.out.device)
        self._first = self.out.shape[1] - ends
        if bool(self._first.any()):
            self.out.zero_()

    def _place_rows(self, lengths: list[int]) -> None:
        """Note for each step which rows' states are kept then, and where."""
        rows: dict[tuple[int, int], list[int]] = {}
        for row, length in enumerate(lengths):
            for place, step in enumerate(steps_of(self.settings, length)):
                rows.setdefault((step, place), []).append(row)
        for (step, place), found in rows.items():
            self._places.setdefault(step, []).append((place, torch.tensor(found, device=self.out.device)))

    def take(self, step: int, states: Tensor, rows: int) -> None:
        """Take the states after a step, shape (batch, nodes), of which the first `rows` have moved on."""
        if self.settings.reduction == "states":
            for place, chosen in self._places.get(step, []):
                if chosen is None:
                    self.out[:, place] = states
                else:
                    self.out[chosen, place] = states[chosen].to(self.out.dtype)
            return
        if self.settings.reduction == "all":
            taken = torch.arange(rows, device=self.out.device)
            self.out[taken, self._first[:rows] + step] = states[:rows].to(self.out.dtype)
            return
        if step < self.settings.warm_up:
            return
        # Welford's recurrence: the sum of squares never cancels.
        self.count += 1
        difference = states[:rows].float() - self._mean[:rows]
        self._mean[:rows].add_(difference, alpha=1 / self.count)
        if self._squares is not None:
            self._squares[:rows].addcmul_(difference, states[:rows].float() - self._mean[:rows])

    def finish(self) -> None:
        """Write means and deviations."""
        if self.settings.reduction in ("states", "all"):
            return
        self.out[:, 0] = self._mean
        if self._squares is not None:
            lengths = self._lengths or [self.count + self.settings.warm_up] * len(self.out)
            counts = torch.tensor(lengths, device=self.out.device, dtype=torch.float32) - self.settings.warm_up
            self.out[:, 1] = (self._squares / counts[:, None]).clamp_min_(0).sqrt_()

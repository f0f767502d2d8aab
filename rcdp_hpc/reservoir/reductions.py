"""What is kept of the states of a sequence, computed on the way: no more than one step's states is ever held.

=============  ===========================================  =================================================
reduction      values per neuron                            computed by
=============  ===========================================  =================================================
states         the states after m steps, equally spaced or  `Spaced`
               named; the last is included
last           the state after the sequence's own last step `Spaced`
all            the states after all steps                   `Every`
mean           mean over the steps                          `Moments`
std            (population) standard deviation              `Moments`
mean_std       mean, then standard deviation                `Moments`
segments       means over k equal parts of the sequence     `Segments`
positive       share of the steps with a state above 0      `Positive`
max            largest state over the steps                 `Largest`
=============  ===========================================  =================================================

Several reductions are joined in the order of ``reservoir.reduction``. Steps of the warm-up count for nothing in all of
them, and so do steps beyond a sequence's length. If all states are kept, those of a shorter sequence are put at the
end, with zeros before them: the last one is each sequence's own.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.kept_steps import last_step, segment_bounds, steps_of
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
    return sum(_values(settings, name, steps) for name in settings.reduction)


def _values(settings: ReservoirSection, name: str, steps: int | None) -> int:
    """Return how many values of each neuron one reduction keeps."""
    if name == "all":
        if steps is None:
            raise InputError("reservoir.reduction = 'all' needs the steps of the longest sequence: give steps")
        return steps
    if name == "states":
        return len(settings.steps) or settings.states
    return {"mean_std": 2, "segments": settings.segments}.get(name, 1)


def kept_shape(settings: ReservoirSection, steps: int | None = None) -> KeptShape:
    """Return how what is kept of a sample lies in its row; `steps` and errors as `values_per_neuron`."""
    parts = len(scans_of(settings)) * (2 if settings.bidirectional else 1) * settings.layers
    return KeptShape(parts, values_per_neuron(settings, steps), settings.nodes)


class Part(Protocol):
    """One of the reductions of a block of sequences, which are longest first."""

    def take(self, step: int, states: Tensor, rows: int) -> None:
        """Take the states after a step, shape (batch, nodes), of which the first `rows` have moved on."""

    def finish(self) -> None:
        """Write what is only known at the end."""


class Reduction:
    """The reductions of one reservoir's states.

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
        self.parts: list[Part] = []
        means: dict[str, int] = {}
        place = 0
        for name in settings.reduction:
            values = out.shape[1] if name == "all" else _values(settings, name, steps)
            own = out[:, place : place + values]
            if name in ("states", "last"):
                self.parts.append(Spaced(settings, name, own, steps, lengths))
            elif name == "all":
                self.parts.append(Every(own, steps, lengths))
            elif name == "segments":
                self.parts.append(Segments(settings, own, steps, lengths))
            elif name == "positive":
                self.parts.append(Positive(settings, own, steps, lengths))
            elif name == "max":
                self.parts.append(Largest(settings, own))
            else:
                means |= {"mean_std": {"mean": place, "std": place + 1}}.get(name, {name: place})
            place += values
        if means:
            self.parts.append(Moments(settings, out, means, steps, lengths))

    def take(self, step: int, states: Tensor, rows: int) -> None:
        """Take the states after a step, shape (batch, nodes), of which the first `rows` have moved on."""
        for part in self.parts:
            part.take(step, states, rows)

    def finish(self) -> None:
        """Write what is only known at the end."""
        for part in self.parts:
            part.finish()


class Spaced:
    """The states after some steps."""

    def __init__(
        self, settings: ReservoirSection, name: str, out: Tensor, steps: int, lengths: list[int] | None
    ) -> None:
        self.out = out
        self._places: dict[int, list[tuple[int, Tensor | None]]] = {}
        of = steps_of if name == "states" else last_step
        if lengths is None:
            for place, step in enumerate(of(settings, steps)):
                self._places.setdefault(step, []).append((place, None))
            return
        # For each step, which rows' states are kept then, and where.
        found: dict[tuple[int, int], list[int]] = {}
        for row, length in enumerate(lengths):
            for place, step in enumerate(of(settings, length)):
                found.setdefault((step, place), []).append(row)
        for (step, place), rows in found.items():
            self._places.setdefault(step, []).append((place, torch.tensor(rows, device=out.device)))

    def take(self, step: int, states: Tensor, rows: int) -> None:
        """Write the states that are kept of this step."""
        for place, chosen in self._places.get(step, []):
            if chosen is None:
                self.out[:, place] = states
            else:
                self.out[chosen, place] = states[chosen].to(self.out.dtype)

    def finish(self) -> None:
        """Everything is written by `take`."""


class Every:
    """The states after all steps, zeros before those of a shorter sequence."""

    def __init__(self, out: Tensor, steps: int, lengths: list[int] | None) -> None:
        self.out = out
        ends = torch.tensor(lengths or [steps] * len(out), device=out.device)
        self._first = out.shape[1] - ends
        if bool(self._first.any()):
            out.zero_()

    def take(self, step: int, states: Tensor, rows: int) -> None:
        """Write the states of this step."""
        taken = torch.arange(rows, device=self.out.device)
        self.out[taken, self._first[:rows] + step] = states[:rows].to(self.out.dtype)

    def finish(self) -> None:
        """Everything is written by `take`."""


class Moments:
    """Mean and standard deviation over the steps by Welford's recurrence: the sum of squares never cancels."""

    def __init__(
        self, settings: ReservoirSection, out: Tensor, places: dict[str, int], steps: int, lengths: list[int] | None
    ) -> None:
        self.out, self.places, self.warm_up, self.count = out, places, settings.warm_up, 0
        self._counts = _counted(settings, out, steps, lengths)
        self._mean = torch.zeros(out.shape[0], out.shape[2], device=out.device)
        self._squares = torch.zeros_like(self._mean) if "std" in places else None

    def take(self, step: int, states: Tensor, rows: int) -> None:
        """Move means and sums of squares on by a step."""
        if step < self.warm_up:
            return
        self.count += 1
        difference = states[:rows].float() - self._mean[:rows]
        self._mean[:rows].add_(difference, alpha=1 / self.count)
        if self._squares is not None:
            self._squares[:rows].addcmul_(difference, states[:rows].float() - self._mean[:rows])

    def finish(self) -> None:
        """Write means and deviations."""
        if "mean" in self.places:
            self.out[:, self.places["mean"]] = self._mean
        if self._squares is not None:
            self.out[:, self.places["std"]] = (self._squares / self._counts).clamp_min_(0).sqrt_()


class Segments:
    """Means over equal parts of each sequence's own steps (see `segment_bounds`).

    Sequences are longest first, so at any step those within segment j are neighbours: rows first[j] to last[j].
    """

    def __init__(self, settings: ReservoirSection, out: Tensor, steps: int, lengths: list[int] | None) -> None:
        self.out = out
        starts, stops = segment_bounds(settings, np.array([steps] * len(out) if lengths is None else lengths))
        at = np.arange(steps)
        self._first, self._last = (
            # rows whose bound lies beyond the step: bounds fall from row to row
            np.stack([np.searchsorted(-bound, -at, side="left") for bound in bounds.T], axis=1).tolist()
            for bounds in (starts, stops)
        )
        self._sums = torch.zeros(out.shape[1], len(out), out.shape[2], device=out.device)
        self._counts = torch.from_numpy((stops - starts).T.astype(np.float32)).to(out.device)

    def take(self, step: int, states: Tensor, rows: int) -> None:
        """Add the states to the segments that this step belongs to."""
        for sums, first, last in zip(self._sums, self._first[step], self._last[step], strict=True):
            if first < last:
                sums[first:last] += states[first:last]

    def finish(self) -> None:
        """Write the means."""
        self.out.copy_((self._sums / self._counts[..., None]).transpose(0, 1))


class Positive:
    """The share of the steps after which a neuron's state is above 0."""

    def __init__(self, settings: ReservoirSection, out: Tensor, steps: int, lengths: list[int] | None) -> None:
        self.out, self.warm_up = out, settings.warm_up
        self._counts = _counted(settings, out, steps, lengths)
        self._found = torch.zeros(out.shape[0], out.shape[2], device=out.device)
        self._above = torch.empty_like(self._found)

    def take(self, step: int, states: Tensor, rows: int) -> None:
        """Count the neurons above 0."""
        if step >= self.warm_up:
            # Written as float32: adding booleans converts them first, several times as slow.
            self._found[:rows] += torch.gt(states[:rows], 0, out=self._above[:rows])

    def finish(self) -> None:
        """Write the shares."""
        self.out[:, 0] = self._found / self._counts


class Largest:
    """The largest state of each neuron."""

    def __init__(self, settings: ReservoirSection, out: Tensor) -> None:
        self.out, self.warm_up = out, settings.warm_up
        self._found = torch.full((out.shape[0], out.shape[2]), -torch.inf, device=out.device)

    def take(self, step: int, states: Tensor, rows: int) -> None:
        """Keep the larger of each state and those before it."""
        if step >= self.warm_up:
            largest = self._found[:rows]
            torch.maximum(largest, states[:rows].float(), out=largest)

    def finish(self) -> None:
        """Write the largest states."""
        self.out[:, 0] = self._found


def _counted(settings: ReservoirSection, out: Tensor, steps: int, lengths: list[int] | None) -> Tensor:
    """Return how many steps of each sequence count, shape (batch, 1), float32."""
    counts = torch.tensor(lengths or [steps] * len(out), device=out.device, dtype=torch.float32) - settings.warm_up
    return counts[:, None]

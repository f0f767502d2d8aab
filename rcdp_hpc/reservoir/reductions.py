"""What is kept of the states of a sequence, computed on the way: no more than one step's states is ever held.

=============  ===========================================  ==============================
reduction      values per neuron                            setting
=============  ===========================================  ==============================
last           the state after the sequence's own last step ``states = 1``
spaced         m states, equally spaced, the last included  ``states = m``
chosen         the states after the steps named             ``steps = [...]``
mean           mean over the steps                          ``reduction = "mean"``
mean, std      mean and (population) standard deviation     ``reduction = "mean_std"``
=============  ===========================================  ==============================

Steps of the warm-up count for nothing in all of them, and so do steps beyond a sequence's length.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.cutting import Cut
from rcdp_hpc.reservoir.scans import kept_steps


def values_per_neuron(settings: ReservoirSection) -> int:
    """Return how many values of each neuron are kept."""
    if settings.reduction == "states":
        return len(settings.steps) or settings.states
    return {"mean": 1, "mean_std": 2}[settings.reduction]


def steps_of(settings: ReservoirSection, length: int) -> list[int]:
    """Return the steps whose states are kept of a sequence of this length, for ``reduction = "states"``.

    Raises
    ------
    InputError
        If the sequence is too short for them.
    """
    if not settings.steps:
        return kept_steps(length, settings.states, settings.warm_up)
    found = [step + length if step < 0 else step for step in settings.steps]
    for asked, step in zip(settings.steps, found, strict=True):
        if not settings.warm_up <= step < length:
            behind = f" and reservoir.warm_up = {settings.warm_up}" if settings.warm_up else ""
            raise InputError(
                f"reservoir.steps: step {asked} is not within the {length} steps of a sample{behind}: "
                "choose steps between them"
            )
    return found


def check_length(settings: ReservoirSection, length: int) -> None:
    """Raise an `InputError` if a sequence of this length is too short for what is kept of it."""
    if settings.reduction == "states":
        steps_of(settings, length)
    elif length <= settings.warm_up:
        raise InputError(
            f"reservoir.warm_up = {settings.warm_up} leaves nothing of a sequence of {length} steps: lower it"
        )


def check_samples(settings: ReservoirSection, sample_shape: Sequence[int], shortest: int | None) -> int:
    """Return the features per step of samples, or refuse those that cannot be read as the settings say.

    Parameters
    ----------
    settings : ReservoirSection
    sample_shape : sequence of int
        Shape of one sample.
    shortest : int or None
        Length of the shortest where samples are padded sequences.

    Raises
    ------
    InputError
        If samples cannot be cut so, or the shortest has fewer steps than are to be kept.
    """
    cut = Cut.of(settings)
    steps, features = cut.shape(sample_shape)
    check_length(settings, steps if shortest is None else int(cut.lengths([shortest])[0]))
    return features


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
        if settings.reduction != "states":
            self._mean = torch.zeros(out.shape[0], out.shape[2], device=out.device)
            self._squares = torch.zeros_like(self._mean) if settings.reduction == "mean_std" else None
        elif lengths is None:
            for place, step in enumerate(steps_of(settings, steps)):
                self._places.setdefault(step, []).append((place, None))
        else:
            self._place_rows(lengths)

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
        if self.settings.reduction == "states":
            return
        self.out[:, 0] = self._mean
        if self._squares is not None:
            lengths = self._lengths or [self.count + self.settings.warm_up] * len(self.out)
            counts = torch.tensor(lengths, device=self.out.device, dtype=torch.float32) - self.settings.warm_up
            self.out[:, 1] = (self._squares / counts[:, None]).clamp_min_(0).sqrt_()

"""What a step reads: buffers that stay at their addresses, and are filled before each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.networks.sample_rng import SampleRng

# What a batch has for each row.
TENSORS = ("states", "labels", "other_labels", "shares", "teacher")
# The last 16 bytes of the packed buffer: three float32 numbers and one that is not used.
SCALARS = 2


@dataclass(frozen=True)
class Batch:
    """A rank's rows of a batch.

    Attributes
    ----------
    states : torch.Tensor, shape (rows, width), float32
        Mixed with those of the partners (``augment.mixup``).
    labels : torch.Tensor, shape (rows,), int64
    draw : SampleRng
        Random numbers of these rows.
    other_labels : torch.Tensor, shape (rows,), int64, optional
        With mixup: labels of the partners.
    shares : torch.Tensor, shape (rows,), float32, optional
        With mixup: the share of each row itself.
    teacher : torch.Tensor, shape (rows, classes), optional
        With a teacher: its probabilities at ``loss.teacher_temperature``, mixed like the states.
    """

    states: torch.Tensor
    labels: torch.Tensor
    draw: SampleRng
    other_labels: torch.Tensor | None = None
    shares: torch.Tensor | None = None
    teacher: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def mixed(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """With mixup: labels of the partners, and share of each row itself."""
        return None if self.other_labels is None or self.shares is None else (self.other_labels, self.shares)


def tensors_of(batches: Sequence[Batch]) -> Iterator[torch.Tensor]:
    """Yield what batches have for each row."""
    for batch in batches:
        yield from (values for name in TENSORS if (values := getattr(batch, name)) is not None)


class StepInputs:
    """The inputs of a step on the device of the training.

    A step that was recorded once reads the same addresses whenever it is repeated, so that nothing of a step is a
    number in Python: row indices, learning rate and factors arrive in one copy.

    Parameters
    ----------
    device : torch.device
    batches : int
        Most batches of a step (``training.accumulate``).
    rows : int
        Most rows of a batch on this rank.

    Attributes
    ----------
    counts : tuple of int
        Rows of each batch of the current step. Steps of equal counts have inputs of equal shapes.
    seed : torch.Tensor, float32, 0-dim
        Derivative of the objective by a batch's sum of losses: loss scale over the weight of the step's rows.
    unscale : torch.Tensor, float32, 0-dim
        What gradients are multiplied by to undo the loss scale.
    rate : torch.Tensor, float32, 0-dim
        Learning rate.
    rate_value : float
        The same on the host.
    """

    def __init__(self, device: torch.device, batches: int = 1, rows: int = 1) -> None:
        self.device = device
        self.counts: tuple[int, ...] = ()
        self.rate_value = 0.0
        self._allocate(batches, rows)

    def _allocate(self, batches: int, rows: int) -> None:
        self.batches = batches
        self.capacity = rows
        self.packed = torch.zeros(batches * rows + SCALARS, dtype=torch.int64, device=self.device)
        scalars = self.packed[-SCALARS:].view(torch.float32)
        self.seed = scalars[0]
        self.unscale = scalars[1]
        self.rate = scalars[2]
        # Batches that are not fetched by the step itself: fixed buffers, and those rows of them that are in use.
        self._buffers: list[dict[str, torch.Tensor]] = [{} for _ in range(batches)]
        self._stored: list[Batch | None] = [None] * batches

    def reserve(self, batches: int, rows: int) -> None:
        """Make room for steps of this size; buffers that are too small move to other addresses."""
        if batches > self.batches or rows > self.capacity:
            self._allocate(max(batches, self.batches), max(rows, self.capacity))

    def fill(self, rows: Sequence[NDArray[np.int64]], weight: float, rate: float, factor: float = 1.0) -> None:
        """Set the inputs of the next step, without waiting for the device.

        Parameters
        ----------
        rows : sequence of ndarray of int64
            Local row indices of each batch.
        weight : float
            Sum of the weights of all ranks' rows.
        rate : float
            Learning rate.
        factor : float
            Loss scale.
        """
        self.counts = tuple(map(len, rows))
        self.reserve(len(rows), max(self.counts, default=0))
        self.rate_value = rate
        values = np.zeros(len(self.packed), np.int64)
        for number, indices in enumerate(rows):
            start = number * self.capacity
            values[start : start + len(indices)] = indices
        seed = np.float32(1) / np.float32(weight) * np.float32(factor)
        values[-SCALARS:].view(np.float32)[:3] = seed, 1 / factor, rate
        staged = torch.from_numpy(values)
        if self.device.type == "cuda":
            # Torch does not use pinned memory again before its copy is done.
            staged = staged.pin_memory()
        self.packed.copy_(staged, non_blocking=True)
        self._stored = [None] * self.batches

    def rows(self, number: int) -> torch.Tensor:
        """Return the local row indices of a batch, shape (rows,), int64."""
        start = number * self.capacity
        return self.packed[start : start + self.counts[number]]

    def store(self, number: int, batch: Batch, draw: SampleRng) -> None:
        """Copy a batch that was fetched ahead into fixed buffers; `draw` are the random numbers of `rows`."""
        buffers, parts = self._buffers[number], {}
        for name in TENSORS:
            values = getattr(batch, name)
            if values is None:
                continue
            if name not in buffers:
                shape = (self.capacity, *values.shape[1:])
                buffers[name] = torch.empty(shape, dtype=values.dtype, device=self.device)
            parts[name] = buffers[name][: len(values)]
            parts[name].copy_(values, non_blocking=True)
        self._stored[number] = Batch(draw=draw, **parts)

    def stored(self, number: int) -> Batch | None:
        """Return a batch that was fetched ahead; None if the step fetches it."""
        return self._stored[number]

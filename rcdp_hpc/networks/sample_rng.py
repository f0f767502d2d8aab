"""Random numbers that depend on the sample, not on the rank that holds it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

GOLDEN = 0x9E3779B97F4A7C15
FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS = (30, 27, 31)
# Numbers of a sample that are drawn for a whole epoch at once; of more numbers only the keys are.
FEW = 8
# A number has this many bits, those of float32.
BITS = 24


class Draw(NamedTuple):
    """Numbers that a training draws for each sample in each step.

    Attributes
    ----------
    layer : int
        Each layer has other numbers.
    width : int
        Numbers of a sample.
    fixed : bool
        Whether they are those of the first epoch in every epoch.
    """

    layer: int
    width: int
    fixed: bool = False


class EpochKeys:
    """The keys of an epoch's random numbers, in tensors that `begin` fills again for each epoch.

    A training step reads nothing of the epoch but these tensors, which stay the same ones.

    Parameters
    ----------
    seed : int
    device : torch.device
    draws : iterable of Draw
        The numbers that every step draws. They are computed together, with fewer calls of torch; all others can be
        drawn, too.
    samples : torch.Tensor, shape (n,), int64, optional
        Index of each of this rank's rows in the training split. With it, the keys of all rows, and up to `FEW` numbers
        of each, are computed at the start of an epoch: 8 bytes a row for each layer, 4 for each of the few numbers.

    Attributes
    ----------
    epoch : int
        The epoch that began last; -1 before the first.
    parity : torch.Tensor, shape (), bool
        Whether the number of the epoch is odd.
    """

    def __init__(
        self, seed: int, device: torch.device, draws: Iterable[Draw] = (), samples: torch.Tensor | None = None
    ) -> None:
        self.seed = seed
        self.device = device
        self.epoch = -1
        declared = list(dict.fromkeys(draws))
        self.few = [draw for draw in declared if draw.width <= FEW]
        self.many = [draw for draw in declared if draw.width > FEW]
        self.parity = torch.zeros((), dtype=torch.bool, device=device)
        # Of this epoch and of the first one: what the number of a layer is added to.
        self.bases = torch.zeros(2, dtype=torch.int64, device=device)
        self.keys = torch.zeros(len(declared), dtype=torch.int64, device=device)
        self.counters = _counters(max((draw.width for draw in declared), default=0), device)
        self.sign = torch.tensor(-(1 << 63), device=device)
        self.samples = samples
        self._numbers: torch.Tensor | None = None
        self._row_keys: torch.Tensor | None = None

    def begin(self, epoch: int, samples: torch.Tensor | None = None) -> EpochKeys:
        """Fill the tensors for an epoch, counted from 0, and return these keys.

        Parameters
        ----------
        epoch : int
        samples : torch.Tensor, shape (n,), int64, optional
            The index of each row, if rows were redistributed; of the shape of earlier ones.
        """
        if epoch == self.epoch and samples is None:
            return self
        self.epoch = epoch
        self.samples = self.samples if samples is None else samples
        bases = [_base(self.seed, epoch), _base(self.seed, 0)]
        keys = [_scrambled_on_host(bases[draw.fixed] + draw.layer) for draw in (*self.few, *self.many)]
        _fill(self.bases, [_signed(base) for base in bases])
        _fill(self.keys, keys)
        self.parity.fill_(bool(epoch % 2))
        if self.samples is not None:
            self._fill_rows(self.samples)
        return self

    def _fill_rows(self, samples: torch.Tensor) -> None:
        """Compute the few numbers and the keys of all rows."""
        row_keys = self.sample_keys(samples)
        if self.few:
            self._numbers = _into(self._numbers, _uniform(self.few_bits(row_keys)))
        if self.many:
            self._row_keys = _into(self._row_keys, row_keys[len(self.few) :])

    def of(self, rows: torch.Tensor) -> SampleRng:
        """Return the random numbers of rows of this rank, shape (rows,), int64, counted from its first row."""
        return SampleRng(self, rows=rows)

    def sample_keys(self, samples: torch.Tensor) -> torch.Tensor:
        """Return the keys of samples (rows,) in each declared layer, shape (layers, rows), int64."""
        # Scrambled twice, so that a sample does not have the numbers that another sample has in another layer.
        return _scramble(samples ^ self.keys[:, None])

    def few_bits(self, sample_keys: torch.Tensor) -> torch.Tensor:
        """Return the ordered bits of the few numbers, shape (layers, rows, width), from `sample_keys`."""
        width = max(draw.width for draw in self.few)
        return self.ordered_bits(sample_keys[: len(self.few), :, None] + self.counters[:width])

    def ordered_bits(self, counters: torch.Tensor) -> torch.Tensor:
        """Return random bits whose order as signed numbers is that of the random numbers in [0, 1).

        The first `BITS` bits are scrambled counters with the opposite sign, since torch compares and shifts signed
        numbers only. The last step of the scrambling, which changes later bits only, is left out.
        """
        mixed = _mixed(_mixed(counters, SHIFTS[0]) * _signed(FACTORS[0]), SHIFTS[1])
        return torch.add(self.sign, mixed, alpha=_signed(FACTORS[1]))

    def numbers(self, rows: torch.Tensor) -> torch.Tensor | None:
        """Return the few numbers of rows, shape (layers, rows, width); None if no samples were given."""
        return None if self._numbers is None else self._numbers[:, rows]

    def row_keys(self, rows: torch.Tensor) -> torch.Tensor | None:
        """Return the keys of rows in the layers of many numbers, (layers, rows); None if no samples were given."""
        return None if self._row_keys is None else self._row_keys[:, rows]


class SampleRng:
    """Random numbers that depend only on (seed, epoch, sample, unit), not on the rank or the batch.

    A counter-based generator: each number is its counter, scrambled by the finaliser of SplitMix64 (Steele, Lea and
    Flood 2014) in 64-bit arithmetic that wraps.

    Parameters
    ----------
    keys : EpochKeys
        Keys of the seed and the epoch.
    samples : torch.Tensor, shape (rows,), int64, optional
        Index of each sample in the training split; by default that of `rows`.
    rows : torch.Tensor, shape (rows,), int64, optional
        Rows of the samples that the keys were given.
    """

    def __init__(self, keys: EpochKeys, samples: torch.Tensor | None = None, rows: torch.Tensor | None = None) -> None:
        self.keys = keys
        self.rows = rows
        self._given = samples
        self._masks: dict[float, torch.Tensor] = {}

    @classmethod
    def at(cls, seed: int, epoch: int, samples: torch.Tensor) -> SampleRng:
        """Return the random numbers of samples in an epoch."""
        return cls(EpochKeys(seed, samples.device).begin(epoch), samples)

    @property
    def samples(self) -> torch.Tensor:
        """The index of each sample in the training split, shape (rows,)."""
        if self._given is not None:
            return self._given
        if self.rows is None or self.keys.samples is None:
            raise TypeError("random numbers of rows need EpochKeys(samples=...)")
        return self.keys.samples[self.rows]

    def keep_mask(self, width: int, fraction: float, layer: int) -> torch.Tensor:
        """Return a mask (rows, width), float32: 0 for a fraction of the units, 1 / (1 - fraction) for the others."""
        place = _place(self.keys.many, layer, width, fixed=False)
        if place is None:
            return (self.uniform(width, layer) >= fraction).float() / (1 - fraction)
        if fraction not in self._masks:
            self._masks[fraction] = (self._many_bits >= _least_kept(fraction)) / (1 - fraction)
        return self._masks[fraction][place, :, :width]

    def uniform(self, width: int, layer: int, fixed: bool = False) -> torch.Tensor:
        """Return numbers (rows, width), float32, uniform in [0, 1); each layer has other numbers.

        Parameters
        ----------
        width, layer : int
        fixed : bool
            Return those of the first epoch.
        """
        place = _place(self.keys.few, layer, width, fixed)
        if place is not None:
            return self._few_numbers[place, :, :width]
        place = _place(self.keys.many, layer, width, fixed)
        if place is not None:
            return _uniform(self._many_bits[place, :, :width])
        sample_keys = _scramble(self.samples ^ _scramble(self.keys.bases[int(fixed)] + layer))
        return _uniform(self.keys.ordered_bits(sample_keys[:, None] + _counters(width, sample_keys.device)))

    @cached_property
    def _few_numbers(self) -> torch.Tensor:
        """All numbers of the layers that draw few of them, shape (layers, rows, width), float32."""
        found = None if self.rows is None else self.keys.numbers(self.rows)
        return _uniform(self.keys.few_bits(self._sample_keys)) if found is None else found

    @cached_property
    def _many_bits(self) -> torch.Tensor:
        """The ordered bits of the layers that draw many numbers, shape (layers, rows, width)."""
        keys = None if self.rows is None else self.keys.row_keys(self.rows)
        keys = self._sample_keys[len(self.keys.few) :] if keys is None else keys
        return self.keys.ordered_bits(keys[:, :, None] + self.keys.counters)

    @cached_property
    def _sample_keys(self) -> torch.Tensor:
        return self.keys.sample_keys(self.samples)


def _place(draws: list[Draw], layer: int, width: int, fixed: bool) -> int | None:
    """Return the place of a layer among draws, if it declared at least so many numbers."""
    for place, draw in enumerate(draws):
        if (draw.layer, draw.fixed) == (layer, fixed) and width <= draw.width:
            return place
    return None


def _counters(width: int, device: torch.device) -> torch.Tensor:
    """Return what is added to the key of a sample for each unit, shape (width,)."""
    return torch.arange(width, dtype=torch.int64, device=device) * _signed(GOLDEN)


def _uniform(ordered: torch.Tensor) -> torch.Tensor:
    """Return the numbers in [0, 1), float32, of ordered bits."""
    return ((ordered >> (64 - BITS)) + (1 << (BITS - 1))) * 2.0**-BITS


def _least_kept(fraction: float) -> int:
    """Return the ordered bits of the smallest number that is not below a fraction."""
    least = min(math.ceil(float(np.float32(fraction)) * 2**BITS), 2**BITS - 1)
    return (least << (64 - BITS)) - (1 << 63)


def _scramble(value: torch.Tensor) -> torch.Tensor:
    for shift, factor in zip(SHIFTS[:2], FACTORS, strict=True):
        value = _mixed(value, shift) * _signed(factor)
    return _mixed(value, SHIFTS[2])


def _mixed(value: torch.Tensor, bits: int) -> torch.Tensor:
    # torch has no unsigned shift: clear the copies of the sign bit.
    return value ^ ((value >> bits) & ((1 << (64 - bits)) - 1))


def _scrambled_on_host(value: int) -> int:
    value &= 2**64 - 1
    for shift, factor in zip(SHIFTS[:2], FACTORS, strict=True):
        value = ((value ^ (value >> shift)) * factor) & (2**64 - 1)
    return _signed(value ^ (value >> SHIFTS[2]))


def _base(seed: int, epoch: int) -> int:
    return (seed * 1_000_003 + epoch) * GOLDEN


def _fill(tensor: torch.Tensor, values: list[int]) -> None:
    tensor.copy_(torch.tensor(values, dtype=torch.int64), non_blocking=True)


def _into(fixed: torch.Tensor | None, values: torch.Tensor) -> torch.Tensor:
    """Copy values into a tensor that was made for them earlier, and return it."""
    return values if fixed is None else fixed.copy_(values)


def _signed(value: int) -> int:
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value

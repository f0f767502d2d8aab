"""Random numbers that depend on the sample, not on the rank that holds it."""

from __future__ import annotations

import torch


class SampleRng:
    """Random numbers that depend only on (seed, epoch, sample, unit), not on the rank or the batch.

    A counter-based generator: each number is its counter, scrambled by the finaliser of SplitMix64 (Steele, Lea and
    Flood 2014) in 64-bit arithmetic that wraps.

    Parameters
    ----------
    seed, epoch : int
        Key of the generator.
    samples : torch.Tensor, shape (rows,), int64
        Index of each sample in the training split.
    """

    def __init__(self, seed: int, epoch: int, samples: torch.Tensor) -> None:
        self.seed = seed
        self.epoch = epoch
        self.samples = samples
        self.key = seed * 1_000_003 + epoch

    def first(self) -> SampleRng:
        """Return the generator of these samples in the first epoch."""
        return SampleRng(self.seed, 0, self.samples)

    def keep_mask(self, width: int, fraction: float, layer: int) -> torch.Tensor:
        """Return a mask (rows, width), float32: 0 for a fraction of the units, 1 / (1 - fraction) for the others."""
        return (self.uniform(width, layer) >= fraction).float() / (1 - fraction)

    def uniform(self, width: int, layer: int) -> torch.Tensor:
        """Return numbers (rows, width), float32, uniform in [0, 1); each layer has other numbers."""
        units = torch.arange(width, dtype=torch.int64, device=self.samples.device)
        # Scrambled twice, so that a sample does not have the numbers that another sample has in another layer.
        layer_key = _scramble(torch.tensor(_signed(self.key * 0x9E3779B97F4A7C15 + layer), device=units.device))
        sample_keys = _scramble(self.samples ^ layer_key)
        bits = _scramble(sample_keys[:, None] + units * _signed(0x9E3779B97F4A7C15))
        return _shift_right(bits, 40).float() / 2**24


def _scramble(value: torch.Tensor) -> torch.Tensor:
    value = (value ^ _shift_right(value, 30)) * _signed(0xBF58476D1CE4E5B9)
    value = (value ^ _shift_right(value, 27)) * _signed(0x94D049BB133111EB)
    return value ^ _shift_right(value, 31)


def _shift_right(value: torch.Tensor, bits: int) -> torch.Tensor:
    # torch has no unsigned shift: clear the copies of the sign bit.
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value

"""Normal noise of the neurons: a function of the sample, the step and the neuron, not of the batch or the rank."""

from __future__ import annotations

import torch
from torch import Tensor


class SampleNoise:
    """Noise of a block of samples.

    The key of a sample is a hash of its input values and the seed, so that a sample has the same noise in any batch and
    on any rank. The numbers are those of a counter-based generator, scrambled by the finaliser of SplitMix64 (Steele,
    Lea and Flood 2014), after Box and Muller's transform.

    Parameters
    ----------
    u : torch.Tensor, shape (batch, steps, features), float32
        Input values, with 0 after the end of a sequence.
    seed : int
    """

    def __init__(self, u: Tensor, seed: int) -> None:
        bits = u.float().contiguous().view(torch.int32).flatten(1).long()
        positions = torch.arange(bits.shape[1], dtype=torch.int64, device=u.device)
        self._keys = _scramble_(_scramble_(bits.add_(positions * _GOLDEN)).sum(1).add_(seed))
        self._units: Tensor | None = None

    def reorder(self, order: Tensor) -> None:
        """Change the order of the samples to this one, shape (batch,), int64."""
        self._keys = self._keys[order]

    def normal(self, step: int, part: int, nodes: int, rows: int) -> Tensor:
        """Return standard normal numbers for the first samples.

        Parameters
        ----------
        step : int
        part : int
            Number of the reservoir, by scan and layer.
        nodes : int
        rows : int

        Returns
        -------
        torch.Tensor, shape (rows, nodes), float32
        """
        if self._units is None or len(self._units) != nodes:
            self._units = torch.arange(nodes, dtype=torch.int64, device=self._keys.device).mul_(_GOLDEN)
        keys = _scramble_(self._keys[:rows] + _signed((step * 65_537 + part) * 0x9E3779B97F4A7C15))
        bits = keys[:, None] + self._units
        other = torch.empty_like(bits)
        _scramble_(bits, other)
        first = _shift_right(bits, 40, other).add_(1).double().div_(2**24).log_().mul_(-2).sqrt_()
        second = bits.bitwise_and_(0xFFFFFF).double().mul_(2 * torch.pi / 2**24).cos_()
        return first.mul_(second).float()


def _scramble_(value: Tensor, other: Tensor | None = None) -> Tensor:
    """Scramble numbers in place; `other` is a tensor of the same shape that may be overwritten."""
    other = torch.empty_like(value) if other is None else other
    value.bitwise_xor_(_shift_right(value, 30, other)).mul_(_signed(0xBF58476D1CE4E5B9))
    value.bitwise_xor_(_shift_right(value, 27, other)).mul_(_signed(0x94D049BB133111EB))
    return value.bitwise_xor_(_shift_right(value, 31, other))


def _shift_right(value: Tensor, bits: int, out: Tensor) -> Tensor:
    # torch has no unsigned shift: clear the copies of the sign bit.
    return torch.bitwise_right_shift(value, bits, out=out).bitwise_and_((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)

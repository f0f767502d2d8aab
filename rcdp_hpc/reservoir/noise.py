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
        self._buffers: _Buffers | None = None

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
            A buffer that the next call overwrites.
        """
        if self._buffers is None or self._buffers.units.shape != (nodes,):
            self._buffers = _Buffers(len(self._keys), nodes, self._keys.device)
        units, bits, other, first, second, result = self._buffers.of(rows)
        keys = _scramble_(self._keys[:rows] + _signed((step * 65_537 + part) * 0x9E3779B97F4A7C15))
        _scramble_(torch.add(keys[:, None], units, out=bits), other)
        first.copy_(_shift_right(bits, 40, other).add_(1)).div_(2**24).log_().mul_(-2).sqrt_()
        second.copy_(bits.bitwise_and_(0xFFFFFF)).mul_(2 * torch.pi / 2**24).cos_()
        return result.copy_(first.mul_(second))


class _Buffers:
    """Tensors of a block, so that no step allocates any."""

    def __init__(self, batch: int, nodes: int, device: torch.device) -> None:
        self.units = torch.arange(nodes, dtype=torch.int64, device=device).mul_(_GOLDEN)
        dtypes = (torch.int64, torch.int64, torch.float64, torch.float64, torch.float32)
        self._tensors = [torch.empty(batch, nodes, dtype=dtype, device=device) for dtype in dtypes]

    def of(self, rows: int) -> tuple[Tensor, ...]:
        """Return the units, and the buffers of the first samples: two of integers, two of float64, one of float32."""
        return self.units, *(tensor[:rows] for tensor in self._tensors)


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

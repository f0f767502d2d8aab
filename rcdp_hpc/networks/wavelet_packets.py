"""A fixed extractor: the wavelet packets of each row of an image, or of each feature of a series along time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rcdp_hpc.config import ExtractorSection
from rcdp_hpc.networks.wavelets import PacketShape, filters_of

# Bytes of the lines that are transformed at once: with the values computed from them they fit in the cache of a core.
BLOCK_BYTES = 2**19
# The same on a device with memory of its own, which needs more parallel work.
DEVICE_BLOCK_BYTES = 2**28


class WaveletPackets(nn.Module):
    """Leaves of the wavelet packet tree of the lines of a sample, in the order of their frequencies.

    A level splits a line x of n values, with the filters h (low-pass) and g (high-pass) of F taps, into two bands of
    n / 2 values (Mallat, "A theory for multiresolution signal decomposition", 1989; x is periodic):

    ``a_k = sum over m of h_m x_(2k + m - F/2 + 1),  d_k = sum over m of g_m x_(2k + m - F/2 + 1)``

    Every band of a level is split again (Coifman and Wickerhauser, "Entropy-based algorithms for best basis selection",
    1992), so that `levels` levels give 2^levels bands of n / 2^levels values each. Subsampling mirrors the frequencies
    of a high-pass band, so the two halves of each band of odd number change places; the bands are then in the order of
    their frequencies (the Gray code of the path in the tree). The transform is orthogonal: it keeps the energy of a
    line.

    A line whose length is not a multiple of 2^levels is extended to the next one by repeating its last value.

    The result is a sequence of 2^levels steps, the bands from low to high frequency. The features of a step, and so a
    sample's features in one band, are ordered by line (row of an image), then coefficient, then channel (or feature of
    a series).

    Parameters
    ----------
    settings : ExtractorSection
        Uses wavelet, levels and axis.
    sample_shape : sequence of int
        (length,), (steps, features), (height, width) or (height, width, channels).

    Attributes
    ----------
    shape : PacketShape
    steps, features : int
        Shape of a sequence: bands, and features of a band.

    Raises
    ------
    InputError
        If samples have more axes, or their lines are shorter than the filter or than 2^levels.
    """

    def __init__(self, settings: ExtractorSection, sample_shape: Sequence[int]) -> None:
        super().__init__()
        self.low, self.high = filters_of(settings.wavelet)
        self.levels = settings.levels
        self.shape = PacketShape.of(settings, sample_shape)
        self.steps, self.features = self.shape.bands, self.shape.band_features

    @torch.no_grad()
    def forward(self, samples: Tensor) -> Tensor:
        """Return the sequences (rows, bands, features of a band) of samples (rows, *sample_shape), of the same dtype.

        Only elementwise operations in a fixed order are applied to a line, so that its packets are the same bits in any
        batch.
        """
        shape = self.shape
        lines = samples.reshape(len(samples), shape.lines, shape.length, shape.inner)
        result = lines.new_empty(len(samples), shape.bands, shape.lines, shape.extended // shape.bands, shape.inner)
        sample_bytes = shape.lines * shape.extended * shape.inner * lines.element_size()
        block = BLOCK_BYTES if lines.device.type == "cpu" else DEVICE_BLOCK_BYTES
        count = max(1, block // sample_bytes)
        for start in range(0, len(samples), count):
            rows = slice(start, start + count)
            # The transformed axis is first, so that all operations are on long runs of values.
            result[rows] = self.packets(self._extended(lines[rows].movedim(2, 0))).permute(2, 0, 3, 1, 4)
        return result.view(len(samples), self.steps, self.features)

    def packets(self, x: Tensor) -> Tensor:
        """Return the leaves (bands, length / bands, ...) of lines (length, ...), whose length the bands divide."""
        bands = x[None].contiguous()
        for _ in range(self.levels):
            low, high = self._split(bands)
            halves = torch.stack((low, high), 1)
            halves[1::2] = halves[1::2].flip(1)
            bands = halves.flatten(0, 1)
        return bands

    def _split(self, bands: Tensor) -> tuple[Tensor, Tensor]:
        """Return the low and the high halves (bands, length / 2, ...) of bands (bands, length, ...)."""
        half, taps = bands.shape[1] // 2, len(self.low)
        first = 1 - taps // 2
        # Value 2k + m of the periodic continuation is value m of pair k; filters longer than a line go round it.
        index = (torch.arange(first, first + 2 * half + taps - 2) % bands.shape[1]).to(bands.device)
        periodic = bands.index_select(1, index)
        low, high = self.low[0] * periodic[:, : 2 * half - 1 : 2], self.high[0] * periodic[:, : 2 * half - 1 : 2]
        product = torch.empty_like(low)
        for m in range(1, taps):
            x = periodic[:, m : m + 2 * half - 1 : 2]
            low += torch.mul(x, self.low[m], out=product)
            high += torch.mul(x, self.high[m], out=product)
        return low, high

    def _extended(self, x: Tensor) -> Tensor:
        """Return lines (length, ...) extended by their last value."""
        if not self.shape.added:
            return x
        return torch.cat((x, x[-1:].expand(self.shape.added, *x.shape[1:])))

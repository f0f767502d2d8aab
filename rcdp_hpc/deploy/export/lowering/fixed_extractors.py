"""Extractors that are not trained with the readout: dictionaries, wavelet packets, random kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.deploy.export.lowering.builder import Builder
from rcdp_hpc.deploy.export.lowering.convolutions import images
from rcdp_hpc.deploy.export.lowering.sequences import Sequences
from rcdp_hpc.networks.dictionary import PatchDictionary
from rcdp_hpc.networks.kernels import RandomKernels
from rcdp_hpc.networks.shapes import FARTHEST_CODE, dictionary_map
from rcdp_hpc.networks.wavelet_packets import WaveletPackets


def lower_dictionary(builder: Builder, dictionary: PatchDictionary, x: str) -> Sequences:
    """Append `PatchDictionary` to images (rows, *sample_shape)."""
    settings = dictionary.settings
    maps = images(builder, x, dictionary.sample_shape)
    codes = _codes(builder, dictionary, maps)
    if settings.mirror:
        width = dictionary.sample_shape[1]
        order = builder.constant("mirrored", np.arange(width)[::-1], np.int64)
        other = _codes(builder, dictionary, builder.op("gather", maps, order, axis=3))
        codes = builder.op("weighted_sum", codes, other, weights=[0.5, 0.5])
    if settings.power != 1:
        codes = builder.op("activation", codes, name="power", exponent=settings.power)
    mean, scale = dictionary.code_mean.cpu().numpy(), dictionary.code_scale.cpu().numpy()
    codes = builder.affine(codes, mean, scale, axis=1, name="code_norm")
    codes = builder.op("activation", codes, name="clip", low=-FARTHEST_CODE, high=FARTHEST_CODE)
    turned = builder.op("transpose", codes, axes=[2, 1])
    shape = [dictionary.steps, dictionary.features]
    return Sequences(builder.op("reshape", turned, shape=shape), dictionary.steps, dictionary.features)


def _codes(builder: Builder, dictionary: PatchDictionary, maps: str) -> str:
    """Return the pooled codes (rows, 2K, q q) of images (rows, C, height, width)."""
    settings, depth = dictionary.settings, dictionary.depth
    height, width = dictionary.sample_shape[:2]
    values, patch, stride = depth * height * width, settings.patch, [settings.stride, settings.stride]
    # The mean over all values of an image, subtracted before the squares of the variance.
    flat = builder.op("reshape", maps, shape=[values])
    mean = builder.linear(flat, np.full((1, values), -1 / values), name="image_mean")
    maps = builder.op("reshape", builder.op("add", flat, mean), shape=[depth, height, width])
    equal = builder.constant("patch_mean", np.full((1, depth, patch, patch), 1 / (depth * patch * patch)))
    no_bias = builder.constant("no_bias", np.zeros(1))

    def means(x: str) -> str:
        return builder.op("conv2d", x, equal, no_bias, stride=stride, padding=[0, 0])

    mean = means(maps)
    squared = builder.op("weighted_sum", means(builder.op("multiply", maps, maps)),
                         builder.op("multiply", mean, mean), weights=[1.0, -1.0])  # fmt: skip
    variance = builder.op("activation", squared, name="clip", low=0.0, high=None)
    floored = builder.op("add", variance, builder.constant("floor", dictionary.floor.cpu().numpy().reshape(1)))
    factor = builder.op("activation", floored, name="power", exponent=-0.5)
    filters = builder.constant("filters", dictionary.filters.cpu().numpy())
    zeros = builder.constant("no_bias", np.zeros(settings.atoms))
    projections = builder.op("conv2d", maps, filters, zeros, stride=stride, padding=[0, 0])
    projections = builder.op("multiply", projections, factor)
    offset = dictionary.offset.cpu().numpy()
    both = [
        builder.affine(
            projections, np.zeros(1), np.array([sign]), sign * offset - settings.threshold, axis=1, name=name
        )
        for sign, name in ((1.0, "atoms"), (-1.0, "negated_atoms"))
    ]
    codes = builder.op("activation", builder.op("concat", *both, axis=1), name="relu", slope=0.0)
    rows, columns = dictionary_map(settings, dictionary.sample_shape)
    flat = builder.op("reshape", codes, shape=[2 * settings.atoms, rows * columns])
    return builder.linear(flat, _pooling(rows, columns, settings.pool), name="pooling")


def _pooling(height: int, width: int, pool: int) -> NDArray[np.float64]:
    """Return the matrix (q q, height · width) of means over q x q regions, those of torch's adaptive pooling."""

    def regions(length: int) -> NDArray[np.float64]:
        shares = np.zeros((pool, length))
        for place in range(pool):
            start, stop = place * length // pool, -(-(place + 1) * length // pool)
            shares[place, start:stop] = 1 / (stop - start)
        return shares

    return np.einsum("ph,qw->pqhw", regions(height), regions(width)).reshape(pool * pool, height * width)


def lower_wavelet_packets(builder: Builder, packets: WaveletPackets, x: str) -> Sequences:
    """Append `WaveletPackets` to samples (rows, *sample_shape)."""
    shape, taps = packets.shape, len(packets.low)
    lines = shape.lines * shape.inner
    x = builder.op("reshape", x, shape=[shape.lines, shape.length, shape.inner])
    x = builder.op("transpose", x, axes=[1, 3, 2])
    if shape.added:
        repeated = np.minimum(np.arange(shape.extended), shape.length - 1)
        x = builder.op("gather", x, builder.constant("extended", repeated, np.int64), axis=3)
    filters = builder.constant("wavelet", np.array([packets.low, packets.high]).reshape(2, 1, 1, taps))
    no_bias = builder.constant("no_bias", np.zeros(2))
    bands, length = 1, shape.extended
    for _ in range(packets.levels):
        x = builder.op("reshape", x, shape=[1, bands * lines, length])
        first = 1 - taps // 2
        periodic = np.arange(first, first + length + taps - 2) % length
        x = builder.op("gather", x, builder.constant("periodic", periodic, np.int64), axis=3)
        x = builder.op("conv2d", x, filters, no_bias, stride=[1, 2], padding=[0, 0])
        bands, length = 2 * bands, length // 2
        x = builder.op("reshape", x, shape=[2, bands // 2, lines, length])
        x = builder.op("reshape", builder.op("transpose", x, axes=[2, 1, 3, 4]), shape=[bands, lines, length])
        if bands > 2:  # the halves of each band of odd number change places
            band = np.arange(bands)
            order = np.where(band // 2 % 2, band ^ 1, band)
            x = builder.op("gather", x, builder.constant("bands", order, np.int64), axis=1)
    x = builder.op("reshape", x, shape=[bands, shape.lines, shape.inner, length])
    x = builder.op("transpose", x, axes=[1, 2, 4, 3])
    return Sequences(builder.op("reshape", x, shape=[bands, packets.features]), bands, packets.features)


def lower_kernels(builder: Builder, module: RandomKernels, u: Sequences) -> str:
    """Append `RandomKernels` to sequences; return the name of the features (rows, features)."""
    features, start = [], 0
    series = builder.op("blank", u.name, *u.lengths) if u.lengths else u.name
    for number, count in enumerate(module.bias_counts):
        biases = module.biases[start : start + count].cpu().numpy()
        dilations = module.dilations[start : start + count].tolist()
        subsets = [module.subsets(number, row) for row in range(count)] if module.channels > 1 else None
        values = series
        if module.inputs[number] == "differences":
            values = builder.op("differences", series, *u.lengths, scaling=1.0)
        elif module.inputs[number] == "standardised":
            values = builder.op("standardise_series", series, *u.lengths, least=0.0)
        features.append(
            builder.op(
                "kernels", values, builder.constant("kernels.bias", biases), *u.lengths, dilations=dilations,
                inner=[bool((row - dilations.index(dilation)) % 2) for row, dilation in enumerate(dilations)],
                channels=subsets,
            )
        )  # fmt: skip
        start += count
    return features[0] if len(features) == 1 else builder.op("concat", *features, axis=1)

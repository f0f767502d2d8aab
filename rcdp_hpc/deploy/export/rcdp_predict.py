"""Predictions of an exported model (``model.npz``). Needs NumPy and this file alone.

>>> model = load("model.npz")               # doctest: +SKIP
>>> model.predict_proba(samples)            # doctest: +SKIP

or ``python rcdp_predict.py model.npz samples.npy``, which prints a label for each sample. ``samples`` are raw samples
in the numbers of the source of the training data, shape (rows, *sample_shape). The operations are explained in
``rcdp_hpc/deploy/export/program.py``.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import os
import sys
from typing import Any

import numpy as np

Array = Any
Settings = dict  # of plain values
# Samples that are computed at once: at most this number, and fewer if one of their values would need more bytes.
BLOCK_ROWS = 256
BLOCK_BYTES = 2**27
# Of no more samples, a trial would take as long as the samples.
FEW_ROWS = 8
# Number format of all values.
FLOAT: Any = np.float32
SEAL = b"rcdp sha256 "
# Connection matrices of more neurons are not expanded to a dense matrix.
MOST_DENSE_NODES = 4096
TRIPLES = list(itertools.combinations(range(9), 3))
PAIRS = list(dict.fromkeys((first, second) for first, second, _ in TRIPLES))
# The error function by linear interpolation between these places: the error is below 1e-8.
ERF_AT = np.linspace(0, 6, 24577)
ERF = np.array([math.erf(x) for x in ERF_AT])


class Model:
    """A trained model.

    Parameters
    ----------
    program : dict
        The operations, as in the file.
    constants : dict of str to ndarray

    Attributes
    ----------
    classes : list of str
    sample_shape : tuple of int
        Shape of one sample; series may have another number of steps than the first entry if `varying_steps`.
    varying_steps : bool
    facts : dict
        How the model was trained, and how its samples were read.
    """

    def __init__(self, program: dict[str, Any], constants: dict[str, Any]) -> None:
        self.program = program
        self.constants = constants
        self.classes = program["classes"]
        self.sample_shape = tuple(program["sample_shape"])
        self.varying_steps = program["varying_steps"]
        self.facts = program["facts"]

    def predict_proba(self, samples: Array, lengths: Array | None = None) -> Array:
        """Return class probabilities, shape (rows, classes), float32: calibrated ones if the model is calibrated.

        Parameters
        ----------
        samples : array, shape (rows, *sample_shape)
            Raw samples.
        lengths : array of int, shape (rows,), optional
            Steps of each series; default: all steps.
        """
        return self.answers(samples, lengths)[0]

    def predict(self, samples: Array, lengths: Array | None = None) -> Array:
        """Return the name of the class that is answered for each sample, shape (rows,); as `predict_proba`.

        It need not be the class with the largest calibrated probability.
        """
        return np.array(self.classes)[self.answers(samples, lengths)[1]]

    def answers(self, samples: Array, lengths: Array | None = None) -> tuple[Array, Array]:
        """Return class probabilities, and the index of the answered class, shape (rows,); as `predict_proba`."""
        return answers(self.program, self.constants, samples, lengths)


def load(path: Any) -> Model:
    """Read an exported model.

    Raises
    ------
    ValueError
        If the file is truncated or altered, or is not an exported model.
    """
    with open(path, "rb") as file:
        content = file.read()
    name = os.fspath(path)
    _check_seal(name, content)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            program = json.loads(arrays["program"].tobytes())
            blobs = {key: arrays[key] for key in arrays.files}
        unknown = {op[0] for op in program["ops"]} - OPERATIONS.keys()
        if unknown:
            raise ValueError(f"no operations {', '.join(sorted(unknown))}; it was written by another version")
        return Model(program, _constants(program["constants"], blobs))
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError, MemoryError, OSError) as error:
        raise ValueError(f"{name}: not an exported model ({error})") from None


def _check_seal(name: Any, content: bytes) -> None:
    """Raise a ValueError if the SHA-256 at the end of the file is not that of the bytes before it."""
    size = len(SEAL) + 64
    expected = size.to_bytes(2, "little") + SEAL + hashlib.sha256(content[: -size - 2]).hexdigest().encode()
    if content[-size - 2 :] != expected:
        raise ValueError(
            f"{name}: its SHA-256 differs from the one recorded in it. It is truncated, damaged or altered."
        )


def _constants(entries: list[dict[str, Any]], blobs: dict[str, Any]) -> dict[str, Array]:
    """Return the constants, from the arrays of each number format in the order of the entries."""
    used = dict.fromkeys(blobs, 0)

    def take(dtype: str, count: int) -> Array:
        start = used[dtype]
        used[dtype] = start + count
        values = blobs[dtype][start : start + count]
        if len(values) != count:
            raise ValueError(f"{dtype} has {len(blobs[dtype])} numbers, expected more")
        return values

    constants = {}
    for entry in entries:
        shape, dtype = entry["shape"], entry["dtype"]
        size = math.prod(shape)
        if entry["stored"] is None:
            values = take(dtype, size)
        else:  # positions and values of what is not 0
            values = np.zeros(size, dtype)
            values[take("uint32", entry["stored"])] = take(dtype, entry["stored"])
        values = values.reshape(shape)
        if entry["axis"] is not None:  # 8-bit integers with a scale for each channel
            along = [-1 if axis == entry["axis"] else 1 for axis in range(len(shape))]
            values = values.astype(np.float32) * take("float32", entry["scales"]).reshape(along)
        constants[entry["name"]] = values
    return constants


def probabilities(
    program: dict[str, Any], constants: dict[str, Any], samples: Array, lengths: Array | None = None
) -> Array:
    """Return the probabilities that a program gives samples; parameters as `Model` and its methods."""
    (found,) = _run(program, constants, samples, lengths, [program["output"]])
    return found


def answers(
    program: dict[str, Any], constants: dict[str, Any], samples: Array, lengths: Array | None = None
) -> tuple[Array, Array]:
    """Return probabilities, and the index of the answered class; parameters as `Model` and its methods."""
    found, decision = _run(program, constants, samples, lengths, [program["output"], decides_by(program)])
    return found, decision.argmax(1)


def _run(
    program: dict[str, Any], constants: dict[str, Any], samples: Array, lengths: Array | None, names: list[str]
) -> list[Array]:
    """Return values of a program by their names, computed in blocks of rows."""
    samples = np.asarray(samples)
    shape = tuple(program["sample_shape"])
    varying = program["varying_steps"]
    expected = shape[1:] if varying else shape
    if samples.ndim != len(shape) + 1 or samples.shape[2 if varying else 1 :] != expected:
        raise ValueError(f"samples of the shape {samples.shape[1:]}; this model takes {shape}")
    if lengths is not None and not varying:
        raise ValueError("lengths: this model takes samples of one length")
    size, blocks = BLOCK_ROWS, []
    if len(samples) > FEW_ROWS:
        first = values_of(program, constants, samples[:1], None if lengths is None else np.asarray(lengths)[:1])
        size = max(1, min(size, BLOCK_BYTES // max(value.nbytes for value in first.values())))
    for start in range(0, len(samples), size):
        rows = slice(start, start + size)
        ends = None if lengths is None else np.asarray(lengths)[rows]
        values = values_of(program, constants, samples[rows], ends, keep=False)
        blocks.append([values[name] for name in names])
    if not blocks:
        return [np.empty((0, len(program["classes"])), np.float32) for _ in names]
    return [np.concatenate(parts) for parts in zip(*blocks, strict=True)]


def decides_by(program: dict[str, Any]) -> str:
    """Return the name of the value whose largest entry is the class that is answered."""
    name: str = program.get("decision") or program["output"]
    return name


def values_of(
    program: dict[str, Any],
    constants: dict[str, Array],
    samples: Array,
    lengths: Array | None = None,
    keep: bool = True,
) -> dict[str, Array]:
    """Return the values of a program by name: all of them, or, without `keep`, those that no operation reads.

    Those of probabilities and answers are returned in any case.
    """
    values = {"samples": np.asarray(samples, np.promote_types(FLOAT, program["sample_dtype"]))}
    if program["varying_steps"]:
        full = np.full(len(samples), samples.shape[1])
        values["lengths"] = full if lengths is None else np.asarray(lengths, np.int64)
    last = {name: number for number, (_, inputs, _, _) in enumerate(program["ops"]) for name in inputs}
    last |= dict.fromkeys((program["output"], decides_by(program)), len(program["ops"]))
    with np.errstate(over="ignore"):
        for number, (kind, inputs, output, settings) in enumerate(program["ops"]):
            read = [constants[name] if name in constants else values[name] for name in inputs]
            values[output] = OPERATIONS[kind](settings, *read)
            if not keep:
                for name in {*inputs} & {*values}:
                    if last[name] == number:
                        del values[name]
    return values


def _fill(settings: Settings, x: Array, values: Array) -> Array:
    filled: Array = np.where(np.isnan(x), values, x)
    return filled.astype(x.dtype)


def _affine(settings: Settings, x: Array, center: Array, scale: Array, offset: Array) -> Array:
    form = [-1 if axis == settings["axis"] else 1 for axis in range(1, x.ndim)]
    wide = x.astype(np.float64 if settings["double"] else FLOAT)
    c, s, o = (values.astype(wide.dtype).reshape(form) for values in (center, scale, offset))
    return ((wide - c) * s + o).astype(FLOAT)


def _reshape(settings: Settings, x: Array) -> Array:
    return x.reshape(len(x), *settings["shape"])


def _transpose(settings: Settings, x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(0, *settings["axes"]))


def _slice(settings: Settings, x: Array) -> Array:
    part = slice(settings["start"], settings["stop"], settings["step"])
    return x[(slice(None),) * settings["axis"] + (part,)]


def _gather(settings: Settings, x: Array, indices: Array) -> Array:
    return x.take(indices, settings["axis"])


def _concat(settings: Settings, *values: Array) -> Array:
    return np.concatenate(values, settings["axis"])


def _add(settings: Settings, x: Array, y: Array) -> Array:
    return x + y


def _multiply(settings: Settings, x: Array, y: Array) -> Array:
    return x * y


def _sigmoid(x: Array) -> Array:
    return FLOAT(0.5) * (np.tanh(FLOAT(0.5) * x) + FLOAT(1))


def _gelu(x: Array) -> Array:
    erf = np.sign(x) * np.interp(np.abs(x) * math.sqrt(0.5), ERF_AT, ERF)
    return (x * (1 + erf) / 2).astype(FLOAT)


def _relu(x: Array, slope: float = 0.0) -> Array:
    return np.where(x > 0, x, x * FLOAT(slope)) if slope else np.maximum(x, 0)


def _activation(settings: Settings, x: Array) -> Array:
    name = settings["name"]
    if name == "clip":
        return np.clip(x, settings["low"], settings["high"])
    if name == "power":
        return x ** FLOAT(settings["exponent"])
    if name == "relu":
        return _relu(x, settings.get("slope", 0.0))
    function: Any = {"identity": np.asarray, "tanh": np.tanh, "sigmoid": _sigmoid, "gelu": _gelu, "log": np.log}[name]
    return function(x)


def _linear(settings: Settings, x: Array, weights: Array, bias: Array) -> Array:
    return x @ weights.T + bias


def _conv2d(settings: Settings, x: Array, kernels: Array, bias: Array) -> Array:
    (s, t), (p, q) = settings["stride"], settings["padding"]
    x = np.pad(x, ((0, 0), (0, 0), (p, p), (q, q)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernels.shape[2:], (2, 3))[:, :, ::s, ::t]
    patches = windows.transpose(0, 2, 3, 1, 4, 5)
    rows, height, width = patches.shape[:3]
    y = np.empty((rows, len(kernels), height, width), x.dtype)
    flat = kernels.reshape(len(kernels), -1).T
    size = max(1, BLOCK_BYTES // (height * width * len(flat) * x.itemsize))
    for start in range(0, rows, size):
        part = patches[start : start + size].reshape(-1, len(flat)) @ flat + bias
        y[start : start + size] = part.reshape(-1, height, width, len(kernels)).transpose(0, 3, 1, 2)
    return y


def _max_pool(settings: Settings, x: Array) -> Array:
    k, m = settings["size"]
    rows, channels, height, width = x.shape
    height, width = height // k, width // m
    return x[:, :, : height * k, : width * m].reshape(rows, channels, height, k, width, m).max((3, 5))


def _layer_norm(settings: Settings, x: Array, scale: Array, offset: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    variance = np.square(centred).mean(-1, keepdims=True)
    return centred / np.sqrt(variance + FLOAT(settings["epsilon"])) * scale + offset


def _attention(settings: Settings, x: Array) -> Array:
    rows, steps, width = x.shape
    q, k, v = x.reshape(rows, steps, 3, settings["heads"], -1).transpose(2, 0, 3, 1, 4)
    shares = _softmax(settings, q @ k.swapaxes(2, 3) / FLOAT(math.sqrt(q.shape[-1])))
    return (shares @ v).swapaxes(1, 2).reshape(rows, steps, width // 3)


def _lstm(settings: Settings, x: Array, weights: Array, recurrent: Array, bias: Array) -> Array:
    driven = x @ weights.T + bias
    size = recurrent.shape[1]
    h = c = np.zeros((len(x), size), FLOAT)
    states = np.empty((*x.shape[:2], size), FLOAT)
    for step in range(x.shape[1]):
        i, f, g, o = np.split(driven[:, step] + h @ recurrent.T, 4, axis=1)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(c)
        states[:, step] = h
    return states


def _gru(settings: Settings, x: Array, weights: Array, recurrent: Array, bias: Array, inner_bias: Array) -> Array:
    driven = x @ weights.T + bias
    size = recurrent.shape[1]
    h = np.zeros((len(x), size), FLOAT)
    states = np.empty((*x.shape[:2], size), FLOAT)
    for step in range(x.shape[1]):
        outer, inner = np.split(driven[:, step], 3, axis=1), np.split(h @ recurrent.T + inner_bias, 3, axis=1)
        r, z = _sigmoid(outer[0] + inner[0]), _sigmoid(outer[1] + inner[1])
        h = (1 - z) * np.tanh(outer[2] + r * inner[2]) + z * h
        states[:, step] = h
    return states


def _softmax(settings: Settings, x: Array) -> Array:
    shares = np.exp(x - x.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def _shares(settings: Settings, x: Array) -> Array:
    least = FLOAT(settings["least"])
    if settings["shift"]:
        shifted = x - x.mean(1, keepdims=True) + FLOAT(1 / x.shape[1])
        x = np.where(x.max(1, keepdims=True) > least, x, shifted)
    values = np.maximum(x, least)
    if settings["shift"]:
        values = values / np.maximum(values.max(1, keepdims=True), 1)
    return values / values.sum(1, keepdims=True)


def _weighted_sum(settings: Settings, *values: Array) -> Array:
    return sum(FLOAT(weight) * x for weight, x in zip(settings["weights"], values, strict=True))


def _inside(x: Array, lengths: Array) -> Array:
    """Return whether each step is before the end of its series, shape (rows, steps, 1)."""
    ends = np.full(len(x), x.shape[1]) if lengths is None else lengths
    return (np.arange(x.shape[1]) < ends[:, None])[:, :, None]


def _blank(settings: Settings, x: Array, lengths: Array | None = None) -> Array:
    return np.where(_inside(x, lengths), x, 0).astype(x.dtype)


def _windows(settings: Settings, x: Array) -> Array:
    views = np.lib.stride_tricks.sliding_window_view(x, settings["size"], 1)[:, :: settings["stride"]]
    return views.swapaxes(2, 3).reshape(len(x), views.shape[1], -1)


def _window_lengths(settings: Settings, lengths: Array) -> Array:
    return (lengths - settings["size"]) // settings["stride"] + 1


def _standardise_series(settings: Settings, x: Array, lengths: Array | None = None) -> Array:
    inside = _inside(x, lengths)
    count = inside.sum(1, keepdims=True)
    wide = np.where(inside, x.astype(np.float64), 0)
    shifted = np.where(inside, wide - wide[:, :1], 0)
    mean = shifted.sum(1, keepdims=True) / count
    centred = np.where(inside, shifted - mean, 0)
    deviation = np.sqrt(np.square(centred).sum(1, keepdims=True) / count)
    varies = deviation > settings["least"] * np.abs(mean + wide[:, :1])
    return np.where(varies, centred / np.where(varies, deviation, 1), 0).astype(FLOAT)


def _differences(settings: Settings, x: Array, lengths: Array | None = None) -> Array:
    inside = _inside(x, lengths)
    wide = x.astype(np.float64)
    steps = np.where(inside, wide - np.concatenate([wide[:, :1], wide[:, :-1]], axis=1), 0)
    if settings["scaling"]:
        return (steps * settings["scaling"]).astype(FLOAT)
    squares = np.square(steps).sum(1, keepdims=True) / np.maximum(inside.sum(1, keepdims=True) - 1, 1)
    return np.where(squares > 0, steps / np.sqrt(np.where(squares > 0, squares, 1)), 0).astype(FLOAT)


def _reverse(settings: Settings, x: Array, lengths: Array | None = None) -> Array:
    ends = np.full(len(x), x.shape[1]) if lengths is None else lengths
    positions = np.maximum(ends[:, None] - 1 - np.arange(x.shape[1]), 0)
    return np.take_along_axis(x, positions[:, :, None], 1)


def _delay(settings: Settings, x: Array) -> Array:
    rows, steps, features = x.shape
    padded = np.concatenate([np.zeros((rows, settings["window"] - 1, features), x.dtype), x], axis=1)
    return np.concatenate(
        [padded[:, settings["window"] - 1 - back :][:, :steps] for back in range(settings["window"])], 2
    )


def _reservoir(
    settings: Settings, x: Array, data: Array, indices: Array, indptr: Array, weights: Array, bias: Array, leak: Array
) -> Array:
    nodes = len(bias)
    rows_of = np.repeat(np.arange(nodes), np.diff(indptr))
    if nodes <= MOST_DENSE_NODES:
        dense = np.zeros((nodes, nodes), FLOAT)
        dense[rows_of, indices] = data

        def recurrent(state: Array) -> Array:
            return state @ dense.T

    else:

        def recurrent(state: Array) -> Array:
            return np.stack([np.bincount(rows_of, data * row[indices], nodes) for row in state]).astype(FLOAT)

    return _leaky(settings, x @ weights.T + bias, leak, recurrent)


def _leaky(settings: Settings, driven: Array, leak: Array, recurrent: Any = None) -> Array:
    """Return the states of all steps, shape (rows, steps, nodes), written over their arguments."""
    state = np.zeros((len(driven), driven.shape[2]), FLOAT)
    for step in range(driven.shape[1]):
        moved = driven[:, step] + recurrent(state) if recurrent and step else driven[:, step]
        state = state + leak * (_activation({"name": settings["activation"]}, moved) - state)
        driven[:, step] = state
    return driven


def _diagonal_reservoir(
    settings: Settings, x: Array, along: Array, across: Array, weights: Array, mixing: Array, bias: Array, leak: Array
) -> Array:
    driven = x @ weights.T
    real = imaginary = np.zeros_like(driven[:, 0])
    memory = np.empty((*driven.shape[:2], 2 * driven.shape[2]), FLOAT)
    for step in range(driven.shape[1]):
        real, imaginary = driven[:, step] + along * real - across * imaginary, along * imaginary + across * real
        memory[:, step] = np.concatenate([real, imaginary], axis=1)
    return _leaky(settings, memory @ mixing.T + bias, leak)


def _reduce(settings: Settings, x: Array, lengths: Array | None = None) -> Array:
    ends = np.full(len(x), x.shape[1]) if lengths is None else lengths
    name, first, count = settings["name"], settings.get("warm_up", 0), settings.get("count", 1)
    if name in ("steps", "spaced"):
        if name == "steps":
            positions = np.stack([ends + step if step < 0 else ends * 0 + step for step in settings["steps"]], 1)
        else:
            positions = first + np.arange(1, count + 1) * (ends[:, None] - first) // count - 1
        return np.take_along_axis(x, positions[:, :, None], 1)
    if name == "all":
        positions = np.arange(count) - count + ends[:, None]
        return np.where(positions[:, :, None] < 0, 0, np.take_along_axis(x, np.maximum(positions, 0)[:, :, None], 1))
    if name == "segments":
        return _segments(x, ends, first, count)
    counted = _inside(x, ends) & (np.arange(x.shape[1]) >= first)[:, None]
    if name == "max":
        return np.where(counted, x, FLOAT(-np.inf)).max(1, keepdims=True)
    steps = counted.sum(1, keepdims=True)
    wide = np.where(counted, x > 0 if name == "positive" else x, 0).astype(np.float64)
    mean = wide.sum(1, keepdims=True) / steps
    if name == "std":
        squares = np.where(counted, np.square(wide - mean), 0).sum(1, keepdims=True)
        return np.sqrt(squares / steps).astype(FLOAT)
    return mean.astype(FLOAT)


def _segments(x: Array, ends: Array, first: int, count: int) -> Array:
    """Return the means of `count` parts of the steps of each series, shape (rows, count, features)."""
    result = np.empty((len(x), count, x.shape[2]), FLOAT)
    for length in np.unique(ends):
        rows = ends == length
        edges = first + np.arange(count + 1) * (length - first) // count
        for part in range(count):
            start, stop = edges[part], max(edges[part + 1], edges[part] + 1)
            result[rows, part] = x[rows, start:stop].mean(1, dtype=np.float64)
    return result


def _kernels(settings: Settings, x: Array, biases: Array, lengths: Array | None = None) -> Array:
    rows, steps = x.shape[:2]
    inside = _inside(x, lengths)[:, :, 0]
    ends = inside.sum(1, keepdims=True)
    x = np.where(inside[:, :, None], x, FLOAT(0))
    features = np.empty((rows, len(biases), len(TRIPLES)), FLOAT)
    for number, dilation in enumerate(settings["dilations"]):
        pad = 4 * dilation
        padded = np.pad(x, ((0, 0), (pad, pad), (0, 0)))
        shifts = [padded[:, j * dilation : j * dilation + steps] for j in range(9)]
        totals = shifts[0] + shifts[1]
        for shift in shifts[2:]:
            totals = totals + shift
        thrice = [3 * shift for shift in shifts]
        counted = inside
        if settings["inner"][number]:
            step = np.arange(steps)
            inner = (step >= pad) & (step < ends - pad)
            counted = np.where(ends > 2 * pad, inner, inside)
        kernel = 0
        for pair, (first, second) in enumerate(PAIRS):
            chosen = settings["channels"][number][pair] if settings["channels"] else [0]
            total = _summed(totals, chosen)
            start = _summed(thrice[first], chosen) - total + _summed(thrice[second], chosen)
            for third in range(second + 1, 9):
                above = (start + _summed(thrice[third], chosen) > biases[number, kernel]) & counted
                features[:, number, kernel] = above.sum(1).astype(FLOAT) / counted.sum(1).astype(FLOAT)
                kernel += 1
    return features.reshape(rows, -1)


def _summed(values: Array, channels: list[int]) -> Array:
    """Return the sum of some channels of values (rows, steps, channels), one after the other."""
    total = values[:, :, channels[0]]
    for channel in channels[1:]:
        total = total + values[:, :, channel]
    return total


OPERATIONS: dict[str, Any] = {
    "fill": _fill, "affine": _affine, "reshape": _reshape, "transpose": _transpose, "slice": _slice, "gather":
    _gather, "concat": _concat, "add": _add, "multiply": _multiply, "activation": _activation, "linear": _linear,
    "conv2d": _conv2d, "max_pool": _max_pool, "layer_norm": _layer_norm, "attention": _attention, "lstm": _lstm,
    "gru": _gru, "softmax": _softmax, "shares": _shares, "weighted_sum": _weighted_sum, "blank": _blank, "windows":
    _windows, "window_lengths": _window_lengths, "standardise_series": _standardise_series, "differences":
    _differences, "reverse": _reverse, "delay": _delay, "reservoir": _reservoir, "diagonal_reservoir":
    _diagonal_reservoir, "reduce": _reduce, "kernels": _kernels,
}  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python rcdp_predict.py MODEL.npz SAMPLES.npy")
    for label in load(sys.argv[1]).predict(np.load(sys.argv[2], allow_pickle=False)):
        print(label)

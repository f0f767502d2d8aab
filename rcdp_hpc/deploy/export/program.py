r"""A trained model as a list of simple operations on named arrays: what all export formats are written from.

The input ``samples`` has the shape (rows, \*sample_shape) and holds raw samples in the numbers of their source. A
program with `varying_steps` has a second input, ``lengths`` (rows,), the steps of each series; its ``samples`` may
have any number of steps, and steps after the end of a series may hold any values. The output has the shape (rows,
classes): the probabilities of the classes. The class that is answered is that of the largest entry of another value of
this shape, or of the probabilities themselves.

The first axis of every value is the rows. Rows do not depend on each other. Values are float32; ``samples`` has the
type `sample_dtype`, ``lengths`` and what `window_lengths` makes of it are integers. In shapes below the axis of rows
is n, that of steps T. Constants have no axis of rows. A setting ``axis`` counts the axes of the value with the rows
as axis 0, and is at least 1; the setting ``shape`` leaves out the rows. Of each operation: inputs; settings; result.

- ``fill``: x, values (F,); NaN in x becomes the value of its last axis. Same shape and type as x.
- ``affine``: x, center (F,), scale (F,), offset (F,); axis, double. (x - center) * scale + offset along ``axis``. F
  may be 1: one number for all. With ``double`` computed in float64 from x as it is, then rounded to float32; otherwise
  in float32.
- ``reshape``: x; shape. Same values in C order. The first entry of ``shape`` may be -1 (the steps).
- ``transpose``: x; axes. Axes from 1, without the rows: (2, 1) exchanges both axes of (n, a, b).
- ``slice``: x; axis, start, stop, step. Entries start, start + step, ... below stop; all three are non-negative
  integers, and ``stop`` is at most the length of the axis.
- ``gather``: x, indices (k,) of int64; axis. Entry j of the result along ``axis`` is entry indices[j].
- ``concat``: x1, x2, ...; axis. The values, one after the other.
- ``add``: x, y. y: a value of as many axes, of which some may have the length 1, or a constant, which is broadcast
  from the last axis. The result has the shape of x.
- ``multiply``: x, y. As ``add``.
- ``activation``: x; name, and what it needs. By element: ``identity``; ``tanh``; ``sigmoid`` 1 / (1 + exp(-x));
  ``relu`` max(x, 0), with ``slope``: x * slope below 0; ``gelu`` x * (1 + erf(x / sqrt 2)) / 2; ``clip`` min(max(x,
  low), high), where low or high may be null; ``power`` x ** exponent, for x of at least 0; ``log`` the natural
  logarithm.
- ``linear``: x (n, ..., F), W (G, F), b (G,). x W' + b along the last axis: (n, ..., G).
- ``conv2d``: x (n, C, H, Z), K (O, C, k, l), b (O,); stride [s, t], padding [p, q]. y_o,i,j = b_o + sum over c, u, v
  of K_o,c,u,v x_c,(i s + u - p),(j t + v - q), x being 0 outside. (n, O, P, Q) with P = (H + 2p - k) div s + 1 and Q =
  (Z + 2q - l) div t + 1.
- ``max_pool``: x (n, C, H, Z); size [k, l]. The largest value of each block of k x l, without what is left over at the
  ends: (n, C, H div k, Z div l).
- ``layer_norm``: x, scale (F,), offset (F,); epsilon. Along the last axis: (x - mean) / sqrt(var + epsilon) * scale +
  offset, var being the mean of the squared deviations.
- ``attention``: x (n, T, 3 W); heads. The last axis is Q, K, V, each of W = heads * d numbers, head by head. softmax(Q
  K' / sqrt(d)) V of each head, the softmax over the steps of K: (n, T, W).
- ``lstm``: x (n, T, F), W (4 H, F), U (4 H, H), b (4 H,). h_0 = c_0 = 0. Blocks of rows i, f, g, o of W x_t + U
  h_(t-1) + b: c_t = s(f) c_(t-1) + s(i) tanh(g), h_t = s(o) tanh(c_t), s the sigmoid. All h_t: (n, T, H).
- ``gru``: x (n, T, F), W (3 H, F), U (3 H, H), b (3 H,), d (3 H,). h_0 = 0. Blocks r, z, m of A = W x_t + b and B = U
  h_(t-1) + d: r = s(A_r + B_r), z = s(A_z + B_z), m = tanh(A_m + r B_m), h_t = (1 - z) m + z h_(t-1). All h_t: (n, T,
  H).
- ``softmax``: x (n, C). exp(x - max x) / its sum.
- ``shares``: x (n, C); least, shift. v = max(x, least), divided by its sum. With ``shift`` first: if no x of a row is
  above ``least``, x becomes x - mean(x) + 1 / C; and v is divided by max(1, max v) before the sum, so that it does not
  overflow.
- ``weighted_sum``: x1, x2, ...; weights. The sum of weight_i * x_i, of values of one shape.

Operations on the steps of series, x (n, T, F). Their last input ``lengths`` is left out if all sequences have T steps,
which happens in a program with `varying_steps`, too. T is the length of the array. Steps after the end of a series hold
any finite value in a result, unless said otherwise.

- ``blank``: x, lengths. Steps after the end of a series become 0.
- ``windows``: x; size, stride. Window p is the steps p * stride .. p * stride + size - 1, one after the other: (n, P,
  size * F) with P = (T - size) div stride + 1.
- ``window_lengths``: lengths; size, stride. (lengths - size) div stride + 1.
- ``standardise_series``: x, lengths; least. By series and feature, over the steps of the series, in float64: (x -
  mean) / deviation, and 0 if deviation <= least * abs(mean). The first step is subtracted before the mean, so that a
  constant feature is exactly 0. Steps after the end become 0.
- ``differences``: x, lengths; scaling. d_t = x_t - x_(t-1), d_0 = 0, in float64; times ``scaling``, or, if that is 0,
  divided by sqrt(sum of d_t squared / (T - 1)) over the steps of the series (0 if that is 0). Steps after the end
  become 0.
- ``reverse``: x, lengths. The steps of each series in the opposite order; step 0 is its last one.
- ``delay``: x; window. u_t = [x_t, x_(t-1), ..., x_(t-window+1)], 0 before the first step: (n, T, window * F).
- ``reservoir``: x, C_data (k,), C_indices (k,) of int32, C_indptr (N + 1,) of int32, W_in (N, F), b (N,), leak (1,) or
  (N,); activation. C (N, N) as CSR: row i has the entries C_indptr[i] .. C_indptr[i + 1] - 1, and C_indices are their
  columns. s_(-1) = 0, s_t = (1 - leak) s_(t-1) + leak f(C s_(t-1) + W_in x_t + b), f an ``activation`` (identity,
  tanh, sigmoid, relu). All s_t: (n, T, N). Causal, so that lengths change nothing.
- ``diagonal_reservoir``: x, along (M,), across (M,), W_in (M, F), W_mix (N, 2 M), b (N,), leak (1,) or (N,);
  activation. Re, Im = along Re - across Im + W_in x_t, along Im + across Re (of the Re, Im of the step before, 0 at
  first), s_t = (1 - leak) s_(t-1) + leak f(W_mix [Re, Im] + b). All s_t: (n, T, N).
- ``reduce``: x, lengths; name, and what it needs. (n, values, F). Let L be the steps of a series and w the setting
  ``warm_up``, the first steps that do not count. ``steps``: x at each of ``steps``, negative ones counted from the end
  of the series (-1 is L - 1). ``spaced``: ``count`` steps w + (i + 1) (L - w) div count - 1, i from 0. ``mean``,
  ``std`` (of the population), ``max``, ``positive`` (share of steps with x > 0): one value over the steps w .. L - 1.
  ``segments``: means over ``count`` parts: part j has the steps w + j (L - w) div count to w + (j + 1) (L - w) div
  count - 1, and the step at its start if it would be empty. ``all``: the ``count`` last steps of a series, zeros first
  if it has fewer.
- ``kernels``: x, biases (B, 84), lengths; dilations [B], inner [B], channels. MiniRocket (Dempster et al., 2021): for
  bias row r with the dilation d and kernel k, the 84 kernels being the ascending triples (p, q, r') of 0 .. 8 in
  lexical order: at step t with v_j = the sum over the channels of x_(t + (j - 4) d) (0 outside of the series), C_t =
  ((3 v_p - (v_0 + v_1 + ... + v_8)) + 3 v_q) + 3 v_r', in float32 and in this order. The feature is the share of the
  steps with C_t > biases[r, k]: of all L steps, or, if ``inner[r]`` and L > 8 d, of the steps 4 d .. L - 4 d - 1.
  ``channels``: null if x has one channel, otherwise for each row r a list of 36 lists: the channels that the kernels
  of the pair (p, q) read, pairs in lexical order (sums over channels: first 3 v_j and the sum of nine by channel, then
  over channels in this order). (n, B * 84): row by row, 84 each.

Which operations a format can write is up to its writer
(`rcdp_hpc.deploy.export.base`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.model.packing import Quantized

SAMPLES = "samples"
LENGTHS = "lengths"
# All kinds of operations; the docstring of the module says what each of them computes.
KINDS = (
    "fill", "affine", "reshape", "transpose", "slice", "gather", "concat", "add", "multiply", "activation", "linear",
    "conv2d", "max_pool", "layer_norm", "attention", "lstm", "gru", "softmax", "shares", "weighted_sum", "blank",
    "windows", "window_lengths", "standardise_series", "differences", "reverse", "delay", "reservoir",
    "diagonal_reservoir", "reduce", "kernels",
)  # fmt: skip

Constant = NDArray[Any] | Quantized


@dataclass(frozen=True)
class Op:
    """One operation.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    inputs : tuple of str
        Names of values or constants, in the order of the module's tables.
    output : str
        Name of the result.
    settings : dict
        Plain values (JSON): numbers, texts, lists, None.
    """

    kind: str
    inputs: tuple[str, ...]
    output: str
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Program:
    """A trained model from raw samples to probabilities.

    Attributes
    ----------
    sample_shape : tuple of int
        Shape of one sample; with `varying_steps` the first entry is the longest series of the training.
    classes : tuple of str
        Names of the classes.
    ops : tuple of Op
        In an order in which every value exists before it is read. Each value has one name and is written once.
    constants : dict of str to ndarray or Quantized
        float32, or int64 and int32 for indices. The constants of ``fill`` and of ``affine`` with ``double`` are
        float64.
    output : str
        Name of the value that holds the probabilities.
    varying_steps : bool
        Whether the program reads ``lengths``.
    sample_dtype : {"float32", "float64"}
        Type of ``samples``: float64 if float32 would lose digits of the source that the standardisation needs.
    facts : dict
        Plain values (JSON) about the model, for texts: the settings, and how new samples are read.
    decision : str
        Name of the value whose largest entry is the class that is answered; empty for that of `output`.
    """

    sample_shape: tuple[int, ...]
    classes: tuple[str, ...]
    ops: tuple[Op, ...]
    constants: dict[str, Constant]
    output: str
    varying_steps: bool = False
    sample_dtype: str = "float32"
    facts: dict[str, Any] = field(default_factory=dict)
    decision: str = ""

    @property
    def kinds(self) -> list[str]:
        """The kinds of operations that the program has, in the order of `KINDS`."""
        used = {op.kind for op in self.ops}
        return [kind for kind in KINDS if kind in used]

    @property
    def decides_by(self) -> str:
        """The name of the value whose largest entry is the class that is answered."""
        return self.decision or self.output

    def array(self, name: str) -> NDArray[Any]:
        """Return a constant as a dense array: of a `Quantized` one its values, float32."""
        constant = self.constants[name]
        return constant.dense() if isinstance(constant, Quantized) else constant

    def description(self) -> dict[str, Any]:
        """Return everything but the constants as plain values (JSON); `of` reads them."""
        return {
            "sample_shape": list(self.sample_shape),
            "classes": list(self.classes),
            "ops": [[op.kind, list(op.inputs), op.output, op.settings] for op in self.ops],
            "output": self.output,
            "decision": self.decides_by,
            "varying_steps": self.varying_steps,
            "sample_dtype": self.sample_dtype,
            "facts": self.facts,
        }

    @classmethod
    def of(cls, description: Mapping[str, Any], constants: dict[str, Constant]) -> Program:
        """Return the program of a `description` and its constants."""
        return cls(
            sample_shape=tuple(description["sample_shape"]),
            classes=tuple(description["classes"]),
            ops=tuple(
                Op(kind, tuple(inputs), output, settings) for kind, inputs, output, settings in description["ops"]
            ),
            constants=constants,
            output=description["output"],
            decision=description.get("decision", ""),
            varying_steps=description["varying_steps"],
            sample_dtype=description["sample_dtype"],
            facts=description["facts"],
        )

    def run(
        self, samples: NDArray[Any], lengths: NDArray[Any] | None = None, double: bool = False
    ) -> NDArray[np.floating[Any]]:
        """Return the probabilities of samples, computed with NumPy, shape (rows, classes), float32.

        Parameters
        ----------
        samples : ndarray, shape (rows, *sample_shape)
            Raw samples.
        lengths : ndarray of int, shape (rows,), optional
            Steps of each series; default: all steps.
        double : bool
            Compute in float64, and return that.
        """
        from rcdp_hpc.deploy.export import rcdp_predict

        if not double:
            return rcdp_predict.probabilities(self.description(), self._dense(), samples, lengths)
        constants = {
            name: array.astype(np.float64) if array.dtype == np.float32 else array
            for name, array in self._dense().items()
        }
        single, rcdp_predict.FLOAT = rcdp_predict.FLOAT, np.float64
        try:
            return rcdp_predict.probabilities(self.description(), constants, samples, lengths)
        finally:
            rcdp_predict.FLOAT = single

    def shapes(self, steps: int | None = None) -> dict[str, tuple[int, ...]]:
        """Return the shape of every value of the program without its rows, found by running one sample of zeros.

        Parameters
        ----------
        steps : int, optional
            Steps of that sample; default: as `sample_shape`.
        """
        from rcdp_hpc.deploy.export.rcdp_predict import values_of

        shape = self.sample_shape if steps is None else (steps, *self.sample_shape[1:])
        values = values_of(self.description(), self._dense(), np.zeros((1, *shape), self.sample_dtype))
        return {name: value.shape[1:] for name, value in values.items()}

    def _dense(self) -> dict[str, NDArray[Any]]:
        return {name: self.array(name) for name in self.constants}

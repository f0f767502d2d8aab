"""Assembling a program operation by operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.deploy.export.program import LENGTHS, SAMPLES, Constant, Op


class Builder:
    """The operations and constants of a program that is being assembled.

    Parameters
    ----------
    varying_steps : bool
        Whether samples are series of unequal length.

    Attributes
    ----------
    ops : list of Op
    constants : dict of str to ndarray or Quantized
    lengths : tuple of str
        The name of the steps of each sequence as further inputs of an operation; empty if all have one length.
    """

    def __init__(self, varying_steps: bool = False) -> None:
        self.ops: list[Op] = []
        self.constants: dict[str, Constant] = {}
        self.lengths: tuple[str, ...] = (LENGTHS,) if varying_steps else ()
        self._used = {SAMPLES, LENGTHS}

    def op(self, kind: str, *inputs: str, result: str = "", **settings: Any) -> str:
        """Append an operation and return the name of its result, by default the kind with a number."""
        output = self._unused(result or kind)
        self.ops.append(Op(kind, inputs, output, settings))
        return output

    def constant(self, name: str, values: Constant | NDArray[Any], dtype: Any = np.float32) -> str:
        """Add a constant and return its name; equal arrays are stored once, quantised ones are taken as they are."""
        if isinstance(values, np.ndarray):
            values = np.ascontiguousarray(values, dtype)
            for other, constant in self.constants.items():
                if isinstance(constant, np.ndarray) and _alike(constant, values):
                    return other
        name = self._unused(name)
        self.constants[name] = values
        return name

    def affine(
        self,
        x: str,
        center: NDArray[Any],
        scale: NDArray[Any],
        offset: NDArray[Any] | None = None,
        *,
        axis: int,
        name: str,
        double: bool = False,
    ) -> str:
        """Append ``affine`` with these constants, by default without an offset."""
        offset = np.zeros(1) if offset is None else offset
        dtype = np.float64 if double else np.float32
        parts = {"center": center, "scale": scale, "offset": offset}
        inputs = [self.constant(f"{name}.{part}", np.atleast_1d(values), dtype) for part, values in parts.items()]
        return self.op("affine", x, *inputs, axis=axis, double=double)

    def linear(self, x: str, weights: Constant, bias: NDArray[Any] | None = None, *, name: str) -> str:
        """Append ``linear`` with these constants, by default without a bias."""
        outputs = weights.shape[0] if isinstance(weights, np.ndarray) else weights.codes.shape[0]
        bias = np.zeros(outputs) if bias is None else bias
        return self.op("linear", x, self.constant(f"{name}.weight", weights), self.constant(f"{name}.bias", bias))

    def _unused(self, name: str) -> str:
        number, unused = 2, name
        while unused in self._used:
            unused, number = f"{name}.{number}", number + 1
        self._used.add(unused)
        return unused


def _alike(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and bool(np.array_equal(one, other))


class Weights:
    """The weights of a part of a network, by the names of its state.

    Parameters
    ----------
    tensors : mapping of str to torch.Tensor
    quantized : mapping of str to Quantized
        Those that are codes with scales.
    prefix : str
        Start of the names of this part.
    """

    def __init__(self, tensors: Mapping[str, Any], quantized: Mapping[str, Constant], prefix: str = "") -> None:
        self.tensors = tensors
        self.quantized = quantized
        self.prefix = prefix

    def __getitem__(self, name: str) -> NDArray[Any]:
        values: NDArray[Any] = self.tensors[self.prefix + name].detach().cpu().numpy()
        return values

    def matrix(self, name: str) -> Constant:
        """Return weights as they are stored: quantised, or an array."""
        return self.quantized.get(self.prefix + name) or self[name]

    def part(self, name: str) -> Weights:
        """Return the weights whose names start with `name` and a dot."""
        return Weights(self.tensors, self.quantized, f"{self.prefix}{name}.")

"""Assembling a program operation by operation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.deploy.export.program import LENGTHS, SAMPLES, Constant, Op
from rcdp_hpc.model.packing import Quantized


class Builder:
    """The operations and constants of a program that is being assembled.

    Parameters
    ----------
    varying_steps : bool
        Whether samples are series of unequal length.
    quantized : iterable of Quantized
        Codes of the model. A constant that has exactly their values is stored as these codes.

    Attributes
    ----------
    ops : list of Op
    constants : dict of str to ndarray or Quantized
    lengths : tuple of str
        The name of the steps of each sequence as further inputs of an operation; empty if all have one length.
    """

    def __init__(self, varying_steps: bool = False, quantized: Iterable[Quantized] = ()) -> None:
        self._quantized = [(codes, codes.dense().reshape(-1)) for codes in quantized]
        self.ops: list[Op] = []
        self.constants: dict[str, Constant] = {}
        self.lengths: tuple[str, ...] = (LENGTHS,) if varying_steps else ()
        self._used = {SAMPLES, LENGTHS}

    def op(self, kind: str, *inputs: str, result: str = "", **settings: Any) -> str:
        """Append an operation and return the name of its result, by default the kind with a number."""
        output = self._unused(result or kind)
        self.ops.append(Op(kind, inputs, output, settings))
        return output

    def constant(self, name: str, values: NDArray[Any], dtype: Any = np.float32) -> str:
        """Add a constant and return its name; equal arrays are stored once, as codes if the model has them."""
        constant = self._coded(np.ascontiguousarray(values, dtype))
        for other, earlier in self.constants.items():
            if _alike(earlier, constant):
                return other
        name = self._unused(name)
        self.constants[name] = constant
        return name

    def _coded(self, values: NDArray[Any]) -> Constant:
        """Return the codes of the model that have these values, in their shape; otherwise the values."""
        for codes, dense in self._quantized:
            # Further axes of length 1 after the first one do not change the channels.
            along_first = codes.axis == 0 and values.shape[:1] == codes.codes.shape[:1]
            if along_first and values.dtype == np.float32 and np.array_equal(dense, values.reshape(-1)):
                return Quantized(codes.codes.reshape(values.shape), codes.scale)
        return values

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

    def linear(self, x: str, weights: NDArray[Any], bias: NDArray[Any] | None = None, *, name: str) -> str:
        """Append ``linear`` with these constants, by default without a bias."""
        bias = np.zeros(len(weights)) if bias is None else bias
        return self.op("linear", x, self.constant(f"{name}.weight", weights), self.constant(f"{name}.bias", bias))

    def _unused(self, name: str) -> str:
        number, unused = 2, name
        while unused in self._used:
            unused, number = f"{name}.{number}", number + 1
        self._used.add(unused)
        return unused


def _alike(one: Constant, other: Constant) -> bool:
    if isinstance(one, Quantized) or isinstance(other, Quantized):
        return False
    return one.dtype == other.dtype and one.shape == other.shape and bool(np.array_equal(one, other))


class Weights:
    """The weights of a part of a network, by the names of its state.

    Parameters
    ----------
    tensors : mapping of str to torch.Tensor
    prefix : str
        Start of the names of this part.
    """

    def __init__(self, tensors: Mapping[str, Any], prefix: str = "") -> None:
        self.tensors = tensors
        self.prefix = prefix

    def __getitem__(self, name: str) -> NDArray[Any]:
        values: NDArray[Any] = self.tensors[self.prefix + name].detach().cpu().numpy()
        return values

    def part(self, name: str) -> Weights:
        """Return the weights whose names start with `name` and a dot."""
        return Weights(self.tensors, f"{self.prefix}{name}.")

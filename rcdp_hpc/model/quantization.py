"""The tensors of a model that are rounded to 8 bits, and their codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.packing import Quantized
from rcdp_hpc.reservoir.connection import ReservoirMatrices
from rcdp_hpc.reservoir.matrix_files import arrays_of

Tensors = dict[str, torch.Tensor]


def is_rounded(value: torch.Tensor) -> bool:
    """Return whether a tensor is stored in 8 bits: whether it has two or more axes, as matrices and kernels have.

    Vectors (biases, normalisations) keep 32 bits: they are few numbers, and errors in them do not average out.
    """
    return value.ndim > 1 and value.is_floating_point()


def quantized_tensors(tensors: Mapping[str, torch.Tensor], prefix: str = "") -> dict[str, Quantized]:
    """Return the codes of the tensors that are stored in 8 bits, with scales along the first axis.

    Parameters
    ----------
    tensors : mapping of str to torch.Tensor
        The state of a network or extractor. The first axis of a matrix or kernel is that of its outputs.
    prefix : str
        Added to the names: ``learned/`` for what an extractor learned (`ModelFile.quantized`).
    """
    return {
        prefix + name: Quantized.of(value.detach().cpu().numpy())
        for name, value in tensors.items()
        if is_rounded(value)
    }


def rounded_tensors(
    tensors: Mapping[str, torch.Tensor], quantized: Mapping[str, Quantized], prefix: str = ""
) -> Tensors:
    """Return tensors with the values of their codes; those without codes unchanged. Parameters as above."""
    return {
        name: torch.from_numpy(quantized[prefix + name].dense()) if prefix + name in quantized else value
        for name, value in tensors.items()
    }


def quantized_matrices(matrices: ReservoirMatrices) -> dict[str, Quantized]:
    """Return the codes of the user's reservoir matrices, by their names in `ModelFile.quantized`.

    W_in has a scale for each node, C, of which only the connections are stored, one for all of them. The bias keeps its
    numbers.
    """
    arrays = arrays_of(matrices)
    return {
        "matrices/input": Quantized.of(arrays["input"]),
        "matrices/recurrent_data": _with_one_scale(arrays["recurrent_data"]),
    }


def _with_one_scale(values: NDArray[np.float64]) -> Quantized:
    row = Quantized.of(values[None])
    return Quantized(row.codes[0], row.scale)


def rounded_matrices(matrices: ReservoirMatrices, quantized: Mapping[str, Quantized]) -> ReservoirMatrices:
    """Return reservoir matrices with the values of the codes that `quantized_matrices` returned."""
    recurrent = matrices.recurrent.tocsr().copy()
    recurrent.data = quantized["matrices/recurrent_data"].dense().astype(np.float64)
    return replace(matrices, recurrent=recurrent, input=quantized["matrices/input"].dense().astype(np.float64))


def rounded_model(file: ModelFile) -> ModelFile:
    """Return a model with all matrices and kernels rounded to 8 bits: readout, extractor, and matrices of the user.

    A reservoir that follows from its seed is not stored, so it stays as it is. Tensors that have codes keep them.
    """
    quantized = {**quantized_tensors(file.weights), **quantized_tensors(file.learned, "learned/")}
    matrices = file.matrices
    if matrices is not None:
        quantized |= quantized_matrices(matrices)
    quantized |= file.quantized
    if matrices is not None:
        matrices = rounded_matrices(matrices, quantized)
    return replace(
        file,
        weights=rounded_tensors(file.weights, quantized),
        learned=rounded_tensors(file.learned, quantized, "learned/"),
        matrices=matrices,
        quantized=quantized,
    )

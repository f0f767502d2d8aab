"""Rearranged constants, whether they are arrays or quantised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse

from rcdp_hpc.deploy.export.program import Constant, Program
from rcdp_hpc.model.packing import Quantized


def transposed(constant: Constant) -> Constant:
    """Return a matrix with its axes exchanged."""
    if isinstance(constant, Quantized):
        return Quantized(np.ascontiguousarray(constant.codes.T), constant.scale, 1 - constant.axis)
    return np.ascontiguousarray(constant.T)


def with_blocks(constant: Constant, order: Sequence[int]) -> Constant:
    """Return a matrix (or vector) with its rows in another order: `order` numbers equal blocks of rows."""
    values = constant.codes if isinstance(constant, Quantized) else constant
    rows = np.arange(len(values)).reshape(len(order), -1)[list(order)].reshape(-1)
    if not isinstance(constant, Quantized):
        return constant[rows]
    scale = constant.scale[rows] if constant.axis == 0 and len(constant.scale) > 1 else constant.scale
    return Quantized(constant.codes[rows], scale, constant.axis)


def recurrent_matrix(program: Program, data: str, indices: str, indptr: str) -> Constant:
    """Return the transposed matrix C' of a reservoir, shape (nodes, nodes), from its constants in CSR form.

    Quantised entries stay quantised if they share one scale.
    """
    stored = program.constants[data]
    starts = program.array(indptr)
    nodes = len(starts) - 1
    entries = stored.codes if isinstance(stored, Quantized) and len(stored.scale) == 1 else program.array(data)
    matrix = scipy.sparse.csr_matrix((entries, program.array(indices), starts), shape=(nodes, nodes))
    dense = np.ascontiguousarray(matrix.toarray().T)
    if isinstance(stored, Quantized) and len(stored.scale) == 1:
        return Quantized(dense, stored.scale, 0)
    return dense

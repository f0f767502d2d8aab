"""Reservoir matrices in npz files: the user's matrices, a run's copy of them, and saved reservoirs.

=============================  ==============================  ==================================
array                          shape                           meaning
=============================  ==============================  ==================================
recurrent                      (nodes, nodes)                  C, dense
recurrent_data, _indices,      (connections,) twice,           C as CSR, instead of `recurrent`
_indptr                        (nodes + 1,)
input                          (nodes, features)               W_in
bias                           (nodes,), may be missing        b_in, 0 if missing
=============================  ==============================  ==================================
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.reservoir.connection import ReservoirMatrices
from rcdp_hpc.runtime.files import write_atomic
from rcdp_hpc.runtime.sealed_zip import has_seal, open_sealed_zip, write_sealed_zip

# Array of a run's copy: SHA-256 of the user's file, as bytes.
ORIGINAL = "original_sha256"
# Errors of reading an npz file. RuntimeError: an archive with a password or an unknown compression.
UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def save_matrices(path: str | Path, matrices: ReservoirMatrices) -> None:
    """Write the matrices of one reservoir atomically; `read_matrices` returns the same bits.

    Parameters
    ----------
    path : str or Path
    matrices : ReservoirMatrices
    """
    arrays: dict[str, Any] = {**arrays_of(matrices)}
    write_atomic(Path(path), lambda file: np.savez(file, **arrays))


def arrays_of(matrices: ReservoirMatrices) -> dict[str, NDArray[Any]]:
    """Return the arrays of the module's table, with C as CSR."""
    recurrent = matrices.recurrent.tocsr()
    return {
        "recurrent_data": recurrent.data,
        "recurrent_indices": recurrent.indices,
        "recurrent_indptr": recurrent.indptr,
        "input": matrices.input,
        "bias": matrices.bias,
    }


def write_run_copy(path: Path, matrices: ReservoirMatrices, original: str) -> None:
    """Write a run's copy of the user's matrices, with a digest of its bytes at the end.

    Parameters
    ----------
    path : Path
    matrices : ReservoirMatrices
    original : str
        SHA-256 of the user's file, in hexadecimal digits.
    """
    arrays: dict[str, Any] = {**arrays_of(matrices), ORIGINAL: np.frombuffer(bytes.fromhex(original), np.uint8)}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_sealed_zip(path, lambda file: file.write(buffer.getbuffer()))


def original_of(path: Path) -> str:
    """Return the SHA-256 of the user's file from which a run's copy was written.

    Raises
    ------
    DataDamagedError
        If the copy is damaged.
    """
    with open_sealed_zip(path) as file:
        try:
            with np.load(file, allow_pickle=False) as content:
                return bytes(content[ORIGINAL].astype(np.uint8, casting="safe")).hex()
        except (*UNREADABLE, KeyError, TypeError) as error:
            raise DataDamagedError(f"{path}: not a run's copy of matrices ({error}).") from None


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open an npz file, after a check of the digest if a run wrote it."""
    if path.is_file() and has_seal(path):
        with open_sealed_zip(path) as file, np.load(file, allow_pickle=False) as content:
            yield content
    else:
        with np.load(path, allow_pickle=False) as content:
            yield content


def read_matrices(path: str | Path, nodes: int, features: int) -> ReservoirMatrices:
    """Read the matrices of one reservoir.

    Parameters
    ----------
    path : str or Path
        An npz file with the arrays of the module's table. Nothing in it is unpickled.
    nodes : int
        The setting ``reservoir.nodes``.
    features : int
        Inputs per step.

    Returns
    -------
    ReservoirMatrices

    Raises
    ------
    InputError
        If the file cannot be read, or an array is missing, has another shape, or is not finite.
    DataDamagedError
        If the file is a run's copy and damaged.
    """
    try:
        with _opened(Path(path)) as content:
            arrays: dict[str, Any] = {name: content[name] for name in content.files}
    except UNREADABLE as error:
        raise InputError(f"reservoir.matrices = {path}: cannot be read as an npz file ({error})") from None
    return matrices_of(arrays, nodes, features, path)


def matrices_of(arrays: Mapping[str, Any], nodes: int, features: int, path: str | Path) -> ReservoirMatrices:
    """Return the matrices in the arrays of the module's table; other parameters and errors as of `read_matrices`."""
    recurrent = _recurrent(path, arrays, nodes)
    if "input" not in arrays:
        raise InputError(f"reservoir.matrices = {path}: has no array 'input' ({nodes} nodes x {features} features)")
    weights = np.asarray(arrays["input"], dtype=np.float64)
    bias = np.asarray(arrays.get("bias", np.zeros(nodes)), dtype=np.float64)
    for name, array, shape in (
        ("recurrent", recurrent, (nodes, nodes)),
        ("input", weights, (nodes, features)),
        ("bias", bias, (nodes,)),
    ):
        if array.shape != shape:
            raise InputError(
                f"reservoir.matrices = {path}: '{name}' has the shape {array.shape}, expected {shape} for "
                f"reservoir.nodes = {nodes} and {features} features a step"
            )
        if not np.isfinite(array.data if scipy.sparse.issparse(array) else array).all():
            raise InputError(f"reservoir.matrices = {path}: '{name}' holds values that are not finite")
    return ReservoirMatrices(recurrent, weights, bias)


def _recurrent(path: str | Path, arrays: Mapping[str, Any], nodes: int) -> scipy.sparse.csr_array:
    parts = [f"recurrent_{name}" for name in ("data", "indices", "indptr")]
    try:
        if "recurrent" in arrays:
            return scipy.sparse.csr_array(np.asarray(arrays["recurrent"], dtype=np.float64))
        if not all(name in arrays for name in parts):
            raise InputError(
                f"reservoir.matrices = {path}: has neither an array 'recurrent' ({nodes} x {nodes}) nor its CSR parts"
            )
        data, indices, indptr = (arrays[name] for name in parts)
        matrix = scipy.sparse.csr_array((data.astype(np.float64), indices, indptr), shape=(nodes, nodes))
        matrix.check_format(full_check=True)
        matrix.sum_duplicates()
        return matrix
    except (ValueError, TypeError) as error:
        raise InputError(f"reservoir.matrices = {path}: the recurrent matrix cannot be read ({error})") from None

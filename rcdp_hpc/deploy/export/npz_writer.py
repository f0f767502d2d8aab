"""Exported models as NumPy arrays, and the predictor that runs them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.deploy.export import rcdp_predict
from rcdp_hpc.deploy.export.base import Probabilities, Writer
from rcdp_hpc.deploy.export.program import Constant, Program
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.packing import Quantized
from rcdp_hpc.runtime.files import write_atomic
from rcdp_hpc.runtime.sealed_zip import write_sealed_zip

PREDICTOR = "rcdp_predict.py"


class NpzWriter(Writer):
    """An archive of one array of all constants for each number format, and ``program``, the operations as JSON.

    The archive ends with the SHA-256 of its bytes. A constant that is mostly zeros is stored as positions and values, a
    quantised one as codes and scales. The predictor ``rcdp_predict.py`` is written to the same folder.
    """

    name = ".npz"

    def write(self, program: Program, model: ModelFile, path: Path) -> list[Path]:
        """Write archive and predictor; as `Writer.write`."""
        arrays = _arrays(program)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        write_sealed_zip(path, lambda file: file.write(buffer.getbuffer()))
        predictor = path.with_name(PREDICTOR)
        write_atomic(predictor, lambda file: file.write(Path(rcdp_predict.__file__).read_bytes()))
        return [path, predictor]

    def predict(self, path: Path, samples: NDArray[Any], lengths: NDArray[np.int64] | None) -> Probabilities:
        """Return the probabilities that the predictor gives; as `Writer.predict`."""
        probabilities: Probabilities = rcdp_predict.load(path).predict_proba(samples, lengths)
        return probabilities


def _arrays(program: Program) -> dict[str, NDArray[Any]]:
    """Return the arrays of the archive."""
    entries: list[dict[str, Any]] = []
    blobs: dict[str, list[NDArray[Any]]] = {}
    for name, constant in program.constants.items():
        entries.append(_entry(name, constant, blobs))
    description = json.dumps({**program.description(), "constants": entries}, separators=(",", ":"))
    joined = {dtype: np.concatenate(parts) for dtype, parts in blobs.items()}
    return {"program": np.frombuffer(description.encode(), np.uint8), **joined}


def _entry(name: str, constant: Constant, blobs: dict[str, list[NDArray[Any]]]) -> dict[str, Any]:
    """Return the description of a constant, and append its numbers to those of their formats."""

    def put(array: NDArray[Any]) -> None:
        blobs.setdefault(array.dtype.name, []).append(array.reshape(-1))

    quantized = constant if isinstance(constant, Quantized) else None
    values = constant.codes if isinstance(constant, Quantized) else constant
    if values.dtype.kind == "i" and quantized is None and values.size and values.min() >= 0:
        values = values.astype(np.min_scalar_type(values.max()))  # indices
    flat = values.reshape(-1)
    positions = np.flatnonzero(flat)
    sparse = len(positions) * (4 + flat.itemsize) < flat.nbytes
    if sparse:
        put(positions.astype(np.uint32))
        put(flat[positions])
    else:
        put(flat)
    if quantized is not None:
        put(quantized.scale)
    return {
        "name": name,
        "shape": list(values.shape),
        "dtype": values.dtype.name,
        "stored": len(positions) if sparse else None,
        "axis": None if quantized is None else quantized.axis,
        "scales": 0 if quantized is None else len(quantized.scale),
    }

"""Predictions as arrays of an npz file."""

from __future__ import annotations

import zipfile
from typing import IO, Any, BinaryIO

import numpy as np

from rcdp_hpc.deploy.formats.base import OutputFormat, Predictions, printable


class NpzFormat(OutputFormat):
    """Arrays ``id``, ``label`` (int64 class index), ``name`` (of the class) and ``probability`` (float32).

    ``probability`` has the shape (samples, classes), the others (samples,). Its name is
    `Predictions.probability_name`. An ensemble adds ``disagreement`` (float32).
    """

    def write(self, file: BinaryIO, predictions: Predictions) -> None:
        """Write predictions, the largest array block by block; see `OutputFormat.write`."""
        rows, classes = predictions.rows, predictions.classes
        labels, disagreement = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        with zipfile.ZipFile(file, "w") as archive:
            with archive.open(f"{predictions.probability_name}.npy", "w", force_zip64=True) as member:
                _write_header(member, np.dtype(np.float32), (rows, len(classes)))
                for block in predictions.blocks:
                    labels.append(block.labels)
                    if block.disagreement is not None:
                        disagreement.append(block.disagreement)
                    member.write(np.ascontiguousarray(block.probabilities).tobytes())
            names = np.array(classes)
            with archive.open("label.npy", "w", force_zip64=True) as member:
                _write_header(member, np.dtype(np.int64), (rows,))
                for part in labels:
                    member.write(part.tobytes())
            with archive.open("name.npy", "w", force_zip64=True) as member:
                _write_header(member, names.dtype, (rows,))
                for part in labels:
                    member.write(names[part].tobytes())
            if predictions.has_disagreement:
                with archive.open("disagreement.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.concatenate(disagreement), allow_pickle=False)
            with archive.open("id.npy", "w", force_zip64=True) as member:
                ids = np.arange(rows) if predictions.ids is None else np.array(list(map(printable, predictions.ids)))
                np.lib.format.write_array(member, ids, allow_pickle=False)


def _write_header(member: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, description)

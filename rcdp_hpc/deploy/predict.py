"""Labels and probabilities for new samples, in one process and without MPI."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources import read_samples
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.files import write_atomic
from rcdp_hpc.training.model import TrainedModel

BLOCK_ROWS = 4096
log = logging.getLogger(__name__)


def predict(model_file: Path, samples_file: Path, output: Path, settings: DataSection | None = None) -> dict[str, int]:
    """Write the labels and probabilities of new samples.

    Parameters
    ----------
    model_file : Path
        A ``model.pt``.
    samples_file : Path
        Samples, raw as the source the model was trained on: an npz or npy file, IDX images, a table, an HDF5 file, time
        series or a folder of images. They are read some at a time.
    output : Path
        An npz file (arrays label, name, probability) or, where its name ends in .csv, a table.

    settings : DataSection, optional
        The section [data] that the model was trained with: names of columns and datasets, size of images.

    Returns
    -------
    dict
        How many samples got each class name.

    Raises
    ------
    InputError
        If a file is missing or of the wrong form, or samples have another shape than the model's.
    """
    if output.suffix not in (".npz", ".csv"):
        raise InputError(f"{output}: expected a name that ends in .npz or .csv.")
    model = TrainedModel.load(model_file)
    samples, lengths = read_samples(samples_file, settings, model.sample_shape[0])
    parts = [np.empty((0, len(model.classes)), np.float32)]
    try:
        for start in range(0, samples.shape[0], BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            own = None if lengths is None else lengths[rows]
            parts.append(model.probabilities(samples[rows], scaled=False, lengths=own))
    except InputError as error:
        raise InputError(f"{samples_file}: {error}") from None
    probabilities = np.concatenate(parts)
    labels = probabilities.argmax(1) if len(probabilities) else np.empty(0, np.int64)
    names = np.array(model.classes)[labels]
    if output.suffix == ".csv":
        write_atomic(output, lambda file: file.write(_table(names, probabilities, model.classes).encode()))
    else:
        write_atomic(output, lambda file: np.savez(file, label=labels, name=names, probability=probabilities))
    log.info("wrote labels and probabilities of %d samples to %s", len(labels), output)
    return {name: int((labels == number).sum()) for number, name in enumerate(model.classes)}


def _table(names: NDArray[np.str_], probabilities: NDArray[np.float32], classes: list[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["sample", "label", *(f"p_{name}" for name in classes)])
    for number, (name, row) in enumerate(zip(names, probabilities, strict=True)):
        writer.writerow([number, name, *(f"{value:.6g}" for value in row)])
    return text.getvalue()

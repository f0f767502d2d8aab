"""Labels and probabilities for new samples, in one process or on many ranks."""

from __future__ import annotations

import csv
import io
import logging
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources import Samples, read_samples
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.collective import agree, agreed
from rcdp_hpc.runtime.comm import Communicator, SingleProcess
from rcdp_hpc.runtime.files import write_atomic
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.threads import fair_share, limit_threads
from rcdp_hpc.training.model import TrainedModel

BLOCK_ROWS = 4096
# Probabilities of all ranks that rank 0 holds at once.
GATHERED_BYTES = 2**28
log = logging.getLogger(__name__)

Probabilities = NDArray[np.float32]


def predict(
    model_file: Path,
    samples_file: Path,
    output: Path,
    settings: DataSection | None = None,
    comm: Communicator | None = None,
    show_progress: bool = False,
) -> dict[str, int]:
    """Write the labels and probabilities of new samples. Collective.

    Samples are read some at a time, each rank its own part; rank 0 gathers the probabilities and writes one file in
    their order.

    Parameters
    ----------
    model_file : Path
        A ``model.pt``.
    samples_file : Path
        Samples, raw as the source the model was trained on; see `rcdp_hpc.data.sources.read_samples`.
    output : Path
        An npz file (arrays label, name, probability) or, where its name ends in .csv, a table.
    settings : DataSection, optional
        The section [data] that the model was trained with: the kind of source, names of columns and datasets, size of
        images.
    comm : Communicator, optional
        All ranks; default: this process alone.
    show_progress : bool
        Show progress on rank 0.

    Returns
    -------
    dict
        How many samples got each class name; on ranks other than 0, none.

    Raises
    ------
    InputError
        If a file is missing or of the wrong form, or samples have another shape than the model's.
    """
    comm = comm or SingleProcess()
    if output.suffix not in (".npz", ".csv"):
        raise agreed(InputError(f"{output}: expected a name that ends in .npz or .csv."))
    model = agree(comm, partial(TrainedModel.load, model_file))
    new = agree(
        comm, partial(read_samples, samples_file, settings, model.sample_shape[0], model.columns, model.sample_shape)
    )
    if comm.is_root:
        new.findings.report(log)
    rows = len(new)
    counts = np.zeros(len(model.classes), np.int64)

    def counted(blocks: Iterable[Probabilities]) -> Iterator[Probabilities]:
        for block in blocks:
            counts[:] += np.bincount(block.argmax(1), minlength=len(counts))
            yield block

    with (
        limit_threads(fair_share(comm)),
        Progress("predict", rows, "samples", enabled=show_progress and comm.is_root) as bar,
    ):
        blocks = _gathered(comm, _block_of(model, new.x, new.lengths, samples_file), rows, model, bar)
        if not comm.is_root:
            for _ in blocks:
                continue
            return {}
        write = _write_table if output.suffix == ".csv" else partial(_write_arrays, rows=rows)
        write_atomic(output, lambda file: write(file, counted(blocks), model.classes))
    log.info("wrote labels and probabilities of %d samples to %s", rows, output)
    return dict(zip(model.classes, counts.tolist(), strict=True))


def _block_of(
    model: TrainedModel, samples: Samples, lengths: NDArray[np.int64] | None, path: Path
) -> Callable[[int, int], Probabilities]:
    """Return a function that gives the probabilities of samples `low` to `high` - 1."""

    def block(low: int, high: int) -> Probabilities:
        own = None if lengths is None else lengths[low:high]
        try:
            return model.probabilities(samples[low:high], scaled=False, lengths=own)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    return block


def _gathered(
    comm: Communicator, block_of: Callable[[int, int], Probabilities], rows: int, model: TrainedModel, bar: Progress
) -> Iterator[Probabilities]:
    """Yield the probabilities of all samples on rank 0, in order, a round of blocks at a time. Collective."""
    # Ranks compute whole blocks of the reservoir, so that a sample's block does not depend on how many ranks there are.
    unit = model.reservoir.batch_rows
    most = min(BLOCK_ROWS, GATHERED_BYTES // (8 * len(model.classes) * comm.size), -(-rows // comm.size) + unit - 1)
    size = max(1, most // unit) * unit
    for start in range(0, rows, size * comm.size):
        low = min(rows, start + comm.rank * size)
        mine = agree(comm, partial(block_of, low, min(rows, low + size)))
        gathered = comm.gather_rows(mine.astype(np.float64))
        bar.advance(min(rows - start, size * comm.size))
        if gathered is not None:
            yield gathered.astype(np.float32)


def _write_table(file: BinaryIO, blocks: Iterable[Probabilities], classes: list[str]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["sample", "label", *(f"p_{name}" for name in classes)])
    first = 0
    for block in blocks:
        for number, (label, row) in enumerate(zip(block.argmax(1), block, strict=True), first):
            writer.writerow([number, classes[label], *(f"{value:.6g}" for value in row)])
        first += len(block)
    # The file is the caller's to close.
    text.detach()


def _write_arrays(file: BinaryIO, blocks: Iterable[Probabilities], classes: list[str], rows: int) -> None:
    """Write an npz file, the largest of its arrays block by block."""
    labels = [np.empty(0, np.int64)]
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open("probability.npy", "w", force_zip64=True) as member:
            _write_header(member, np.dtype(np.float32), (rows, len(classes)))
            for block in blocks:
                labels.append(block.argmax(1))
                member.write(np.ascontiguousarray(block).tobytes())
        names = np.array(classes)
        with archive.open("label.npy", "w", force_zip64=True) as member:
            _write_header(member, np.dtype(np.int64), (rows,))
            for part in labels:
                member.write(part.tobytes())
        with archive.open("name.npy", "w", force_zip64=True) as member:
            _write_header(member, names.dtype, (rows,))
            for part in labels:
                member.write(names[part].tobytes())


def _write_header(member: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, description)

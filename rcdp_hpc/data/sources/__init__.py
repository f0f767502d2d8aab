"""Where samples come from: one module per kind of source."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.memory import Budget
from rcdp_hpc.data.sources import cifar, digits, hdf5, idx, image_folder, npy, npz, series_folder, tables, ts
from rcdp_hpc.data.sources.base import (
    Columns,
    NewSamples,
    Part,
    Samples,
    Source,
    default_scale,
    joined,
    to_float,
)
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.kinds import kind_of
from rcdp_hpc.errors import InputError

# Sources that are several files with fixed names.
WHOLE = ("mnist", "npy", "cifar10", "cifar100", "ts")

log = logging.getLogger(__name__)

__all__ = [
    "Columns",
    "Findings",
    "NewSamples",
    "Part",
    "Samples",
    "Source",
    "default_scale",
    "open_source",
    "read_samples",
    "to_float",
]


def open_source(settings: DataSection, progress: bool = False) -> Source:
    """Open the source that the configuration names.

    What of it does not fit in ``data.memory_budget`` is read when it is needed. What the reader assumed and left out is
    logged.

    Parameters
    ----------
    settings : DataSection
        The section ``[data]``.
    progress : bool
        Show progress where every sample has to be looked at.

    Raises
    ------
    InputError
        If a file is missing, damaged or not what the source expects, or holds fewer than two classes.
    """
    if settings.source != "digits" and not settings.path:
        raise InputError(f"data.path is empty: data.source = '{settings.source}' needs the path of its data.")
    source = _read(settings, Path(settings.path), Budget.of(settings), progress)
    if len(source.classes) < 2:
        found = f"only class {source.classes[0]!r}" if source.classes else "none"
        raise InputError(
            f"data source {settings.path or settings.source}: two classes or more are needed, {found} found."
        )
    source = replace(source, kind=kind_of(source, settings.kind))
    source.findings.report(log)
    return source


def _read(settings: DataSection, path: Path, budget: Budget, progress: bool) -> Source:
    match settings.source:
        case "digits":
            return digits.read_source()
        case "mnist":
            return idx.read_source(path, budget)
        case "npz":
            return npz.read_source(path, settings, budget)
        case "npy":
            return npy.read_source(path, settings, budget)
        case "cifar10" | "cifar100":
            return cifar.read_source(path, settings.source, settings.coarse_labels, budget)
        case "csv" | "parquet":
            return tables.read_source(path, settings, budget)
        case "hdf5":
            return hdf5.read_source(path, settings, budget)
        case "ts":
            return ts.read_source(path, settings, budget)
        case "image_folder":
            return image_folder.read_source(path, settings, budget, progress)
        case "series_folder":
            return series_folder.read_source(path, settings, budget)


def read_samples(
    path: Path,
    settings: DataSection | None = None,
    longest: int = 0,
    columns: Columns | None = None,
    sample_shape: tuple[int, ...] = (),
) -> NewSamples:
    """Read samples that need no labels, for prediction.

    Parameters
    ----------
    path : Path
        An npz file (key ``x``), an npy file, a file of IDX images, plain or .gz, a csv or parquet table, an HDF5 file,
        a file of time series (.ts), an image or a folder of images; the kind follows from the name. Of the sources with
        files of their own in a folder or an archive (mnist, npy, cifar10, cifar100, ts), where `settings` name one, the
        whole source: its training and then its test samples.
    settings : DataSection, optional
        Kind of source, names of columns and datasets and the size of images, as the model was trained with.
    longest : int
        Steps that time series are padded to.
    columns : Columns, optional
        Of the table that the model was trained on.
    sample_shape : tuple of int, optional
        Of the model's samples; images are brought to it.

    Returns
    -------
    NewSamples
        Raw samples; multiply by the scale in index.json (`to_float`).

    Raises
    ------
    InputError
        If the file is missing, damaged, empty or of none of these formats.
    """
    settings = settings or DataSection()
    budget = Budget.of(settings)
    if settings.source == "series_folder" and path.suffix.lower() != ".npz":
        return series_folder.read_samples(path, settings, budget, longest)
    match path.suffix:
        case ".npz":
            return npz.read_samples(path, settings, budget, longest, sample_shape)
        case ".npy":
            return npy.read_samples(path, settings, budget, longest, sample_shape)
        case ".csv" | ".parquet":
            return tables.read_samples(path, settings, budget, longest, columns)
        case ".h5" | ".hdf5":
            return hdf5.read_samples(path, settings, budget, longest, sample_shape)
        case ".tsv" if settings.source == "ts":
            return ts.read_samples(path, settings, budget, longest)
        case ".ts":
            return ts.read_samples(path, settings, budget, longest)
    if settings.source in WHOLE and (path.is_dir() or ".tar" in path.suffixes or path.suffix == ".tgz"):
        # Samples alone cannot be told apart here from the files of labels beside them.
        source = _read(settings.model_copy(update={"path": str(path)}), path, budget, progress=False)
        return joined(source, longest)
    if path.is_dir() or image_folder.is_image(path):
        return image_folder.read_samples(path, settings, budget, sample_shape)
    return NewSamples(idx.read_images(path, budget))

"""New samples for prediction: the reader follows from what a file holds and what the model was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rcdp_hpc.config import DataSection
from rcdp_hpc.config.regular_files import refuse_special_in
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources.base import Columns, NewSamples, joined
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.readers import READERS, module
from rcdp_hpc.data.sources.sniff import ARFF, CSV, PARQUET, TS, Format, format_of, formats_by_name
from rcdp_hpc.errors import InputError

# Sources of several files with fixed names: of a folder or an archive of theirs, all samples are read.
WHOLE = ("mnist", "npy", "cifar10", "cifar100", "ts", "arff")
# Formats that hold the samples of each kind of source.
FORMATS_OF: Mapping[str, tuple[str, ...]] = {
    "mnist": ("idx",),
    "npz": ("npz",),
    "npy": ("npy",),
    "cifar10": ("archive",),
    "cifar100": ("archive",),
    "csv": (CSV, PARQUET, ARFF),
    "parquet": (CSV, PARQUET, ARFF),
    "hdf5": ("hdf5",),
    "ts": (TS, ARFF),
    "arff": (ARFF, TS, CSV, PARQUET),
    "image_folder": ("image",),
    "series_folder": (CSV, "npy", "npz"),
}
NAMED = 20


@dataclass(frozen=True)
class Request:
    """What is read, and with which settings."""

    path: Path
    data: DataSection
    longest: int
    columns: Columns | None
    shape: tuple[int, ...]

    @property
    def budget(self) -> Budget:
        """What may be held in memory."""
        return Budget.of(self.data)


def _table(request: Request) -> NewSamples:
    return module("tables").read_samples(  # type: ignore[no-any-return]
        request.path, request.data, request.budget, request.longest, request.columns
    )


def _images(request: Request) -> NewSamples:
    return module("image_folder").read_samples(  # type: ignore[no-any-return]
        request.path, request.data, request.budget, request.shape
    )


def _whole(request: Request) -> NewSamples:
    data = request.data.model_copy(update={"path": str(request.path)})
    return joined(READERS[data.source](request.path, data, request.budget, False), request.longest)


def _arrays(name: str) -> Callable[[Request], NewSamples]:
    """Return the function that reads arrays by the module of this name."""
    return lambda request: module(name).read_samples(  # type: ignore[no-any-return]
        request.path, request.data, request.budget, request.longest, request.shape
    )


def _series(name: str) -> Callable[[Request], NewSamples]:
    """Return the function that reads series by the module of this name."""
    return lambda request: module(name).read_samples(  # type: ignore[no-any-return]
        request.path, request.data, request.budget, request.longest
    )


FILE_READERS: Mapping[str, Callable[[Request], NewSamples]] = {
    "npz": _arrays("npz"),
    "npy": _arrays("npy"),
    "hdf5": _arrays("hdf5"),
    PARQUET: _table,
    CSV: _table,
    TS: _series("ts"),
    ARFF: lambda request: module("arff").read_samples(
        request.path, request.data, request.budget, request.longest, request.columns, request.shape
    ),
    "idx": lambda request: NewSamples(module("idx").read_images(request.path, request.budget)),
    "image": _images,
}
FOLDER_READERS: Mapping[str, Callable[[Request], NewSamples]] = {
    **dict.fromkeys(WHOLE, _whole),
    **dict.fromkeys(("csv", "parquet"), _table),
    "image_folder": _images,
    "series_folder": _series("series_folder"),
}


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
        a file of time series (.ts) or an ARFF file, an image or a folder of images: the content decides, whatever the
        name. For sources of several files (mnist, npy, cifar10, cifar100, ts, arff; `settings` name the source) also
        their folder or archive: the training and then the test samples.
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
        Raw samples; `NewSamples.findings` reports what was assumed.

    Raises
    ------
    InputError
        If the file is missing, damaged, empty, a stream, or does not have one of these formats.
    """
    path = path.expanduser()
    _refuse_streams(path)
    request = Request(path, settings or DataSection(), longest, columns, sample_shape)
    source = settings.source if settings is not None else ""
    if path.is_dir():
        return FOLDER_READERS.get(source, _images)(request)
    found = _chosen(format_of(path), path, source, len(sample_shape) == 2)
    if found.name == "archive":
        if source not in WHOLE:
            raise InputError(f"{path}: {found.meaning}: unpack it first.")
        return _whole(request)
    # A series of a folder is a small table or array of its own.
    single = source == "series_folder" and found.name != "npz"
    new = FOLDER_READERS[source](request) if single else FILE_READERS[found.name](request)
    return replace(new, findings=_with_assumed(new.findings, found, path, source, columns))


def _chosen(found: Format, path: Path, source: str, series: bool) -> Format:
    """Return the format to read, of texts that are not .ts by their content.

    The .tsv files of UCR have series in their rows; of a text called .ts its reader explains what is missing.
    """
    name = path.name.lower()
    tabs = name.removesuffix(".gz").endswith(".tsv") and (source == "ts" or (source == "arff" and series))
    if found.name == CSV and (name.endswith(".ts") or tabs):
        return replace(found, name=TS, meaning="a file of time series")
    return found


def _with_assumed(findings: Findings, found: Format, path: Path, source: str, columns: Columns | None) -> Findings:
    """Add what is read otherwise than the name of the file or the model's source suggest."""
    assumed = []
    if found.name not in [one.name for one in formats_by_name(path)] and (path.suffix or found.name != "idx"):
        assumed.append(f"{path.name} is {found.meaning}, by its content")
    if source in FORMATS_OF and found.name not in FORMATS_OF[source]:
        assumed.append(f"{path.name} is {found.meaning}; the model was trained on data.source = '{source}'")
    if columns is not None and found.name not in (CSV, PARQUET, ARFF):
        names = ", ".join(columns.features[:NAMED]) + (", ..." if len(columns.features) > NAMED else "")
        assumed.append(f"the values of {path.name} have no names, so they are taken in the order of training: {names}")
    findings.assumed[:0] = assumed
    return findings


def _refuse_streams(path: Path) -> None:
    if str(path) == "-" and not path.exists():
        raise InputError(
            "samples are not read from standard input, because they are read in parts and by several ranks: save them "
            "to a file and name it."
        )
    if not path.exists():
        raise InputError(f"{path}: no such file or folder.")
    refuse_special_in(path)

"""New samples for prediction, read by the reader of the source that the model was trained on."""

from __future__ import annotations

from pathlib import Path

from rcdp_hpc.config import DataSection
from rcdp_hpc.config.regular_files import refuse_special_in
from rcdp_hpc.data.sources.base import Columns, NewSamples
from rcdp_hpc.data.sources.by_content import read_by_content
from rcdp_hpc.data.sources.checks import read_unlabelled
from rcdp_hpc.data.sources.load import make_reader
from rcdp_hpc.data.sources.request import SampleRequest
from rcdp_hpc.errors import InputError


def read_samples(
    path: Path,
    settings: DataSection | None = None,
    longest: int = 0,
    columns: Columns | None = None,
    sample_shape: tuple[int, ...] = (),
    working_directory: bool = True,
) -> NewSamples:
    """Read samples that need no labels, for prediction.

    Parameters
    ----------
    path : Path
        An npz file (key ``x``), an npy file, a file of IDX images, plain or .gz, a csv or parquet table, an HDF5 file,
        a file of time series (.ts), an ARFF file, an image or a folder of images: the content decides, not the name.
        A source of several files (mnist, npy, cifar10, cifar100, ts, arff; `settings` name the source) also reads its
        folder or archive: the training samples, then the test samples. A user's own source decides itself what it
        reads.
    settings : DataSection, optional
        The settings with which the model's training data were read; default: the content alone decides.
    longest : int
        Steps to which time series are padded.
    columns : Columns, optional
        Columns of the table that the model was trained on.
    sample_shape : tuple of int, optional
        Shape of the model's samples; images are brought to it.
    working_directory : bool
        Search the working directory for the module of a user's own source, too.

    Returns
    -------
    NewSamples
        Raw samples; `NewSamples.findings` holds the reader's assumptions.

    Raises
    ------
    InputError
        If the file is missing, damaged, empty, a stream, or does not have one of these formats.
    """
    path = path.expanduser()
    _refuse_streams(path)
    request = SampleRequest(path, settings or DataSection(), longest, columns, sample_shape)
    if settings is None:
        return read_by_content(request)
    reader = make_reader(settings.source, working_directory)
    return read_unlabelled(settings.source, lambda: reader.read_new(request))


def _refuse_streams(path: Path) -> None:
    if str(path) == "-" and not path.exists():
        raise InputError(
            "samples are not read from standard input, because they are read in parts and by several ranks: save them "
            "to a file and name it."
        )
    if not path.exists():
        raise InputError(f"{path}: no such file or folder.")
    refuse_special_in(path)

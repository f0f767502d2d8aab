"""Sources of samples: one module with a reader for each kind of source, and the package's ways to read them."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from rcdp_hpc.config import DataSection
from rcdp_hpc.config.regular_files import refuse_special_in
from rcdp_hpc.data.sources.base import (
    Columns,
    NewSamples,
    Part,
    Samples,
    Source,
    default_scale,
    to_float,
)
from rcdp_hpc.data.sources.checks import read_labelled
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.in_memory import LabelledArrays
from rcdp_hpc.data.sources.kinds import kind_of
from rcdp_hpc.data.sources.load import make_reader
from rcdp_hpc.data.sources.new_samples import read_samples
from rcdp_hpc.data.sources.reader import SourceReader
from rcdp_hpc.data.sources.request import SampleRequest, SourceRequest
from rcdp_hpc.errors import InputError

log = logging.getLogger(__name__)

__all__ = [
    "Columns",
    "Findings",
    "LabelledArrays",
    "NewSamples",
    "Part",
    "SampleRequest",
    "Samples",
    "Source",
    "SourceReader",
    "SourceRequest",
    "default_scale",
    "make_reader",
    "open_source",
    "read_samples",
    "to_float",
]


def open_source(
    settings: DataSection, progress: bool = False, arrays: LabelledArrays | None = None, fewest_classes: int = 2
) -> Source:
    """Open the source that the configuration names.

    Samples that do not fit in ``data.memory_budget`` are read from their files when they are needed. The reader's
    assumptions and what it left out are logged.

    Parameters
    ----------
    settings : DataSection
        The section ``[data]``.
    progress : bool
        Show progress if every sample has to be read.
    arrays : LabelledArrays, optional
        Samples in memory, for ``data.source = "arrays"``.
    fewest_classes : int
        Classes that the source must have; 1 if they are a part of those of a model.

    Raises
    ------
    InputError
        If a file is missing, damaged or not what the source expects, or holds too few classes.
    """
    reader = make_reader(settings.source)
    if reader.needs_path and not settings.path:
        raise InputError(f"data.path is empty: data.source = '{settings.source}' needs the path of its data.")
    if settings.test_path and not reader.takes_test_path:
        raise InputError(
            f"data.test_path = {settings.test_path!r}: data.source = '{settings.source}' has its test set, if any, in "
            "data.path: take data.test_path out."
        )
    for name in filter(None, (settings.path, settings.test_path)):
        refuse_special_in(name)
    request = SourceRequest(Path(settings.path), settings, progress, arrays)
    source = read_labelled(settings.source, lambda: reader.read(request))
    if len(source.classes) < fewest_classes:
        classes = f"only class {source.classes[0]!r}" if source.classes else "none"
        raise InputError(
            f"data source {settings.path or settings.source}: two classes or more are needed, {classes} found."
        )
    source = replace(source, kind=kind_of(source, settings.kind))
    source.findings.report(log)
    return source

"""Where samples come from: one module per kind of source."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from rcdp_hpc.config import DataSection
from rcdp_hpc.config.regular_files import refuse_special_in
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources.base import (
    Columns,
    NewSamples,
    Part,
    Samples,
    Source,
    default_scale,
    to_float,
)
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.kinds import kind_of
from rcdp_hpc.data.sources.new_samples import read_samples
from rcdp_hpc.data.sources.readers import READERS
from rcdp_hpc.errors import InputError

log = logging.getLogger(__name__)

# Sources that may have their test set in a file or folder of its own.
WITH_TEST_PATH = ("csv", "parquet", "ts", "arff", "image_folder", "series_folder")

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
    if settings.test_path and settings.source not in WITH_TEST_PATH:
        raise InputError(
            f"data.test_path = {settings.test_path!r}: data.source = '{settings.source}' has its test set, if any, in "
            "data.path: take data.test_path out."
        )
    for name in filter(None, (settings.path, settings.test_path)):
        refuse_special_in(name)
    source = READERS[settings.source](Path(settings.path), settings, Budget.of(settings), progress)
    if len(source.classes) < 2:
        found = f"only class {source.classes[0]!r}" if source.classes else "none"
        raise InputError(
            f"data source {settings.path or settings.source}: two classes or more are needed, {found} found."
        )
    source = replace(source, kind=kind_of(source, settings.kind))
    source.findings.report(log)
    return source

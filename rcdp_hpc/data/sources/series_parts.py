"""Files of many labelled series (.ts, .tsv, .arff): a training file and a test file as one source."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.sources.base import NewSamples, Source
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.labels import checked_labels, encode_labels
from rcdp_hpc.data.sources.series import SeriesCollector
from rcdp_hpc.errors import InputError

# Texts that are a missing label.
UNKNOWN = ("", "?")


@dataclass(eq=False)
class SeriesOfFile:
    """The series of a file that are used, and their labels.

    Attributes
    ----------
    path : Path
    series : SeriesCollector
    drops_unlabelled : bool
        Whether series without a label are left out.
    labels : list of str
        Labels of the series that are used.
    places : list of int
        Index in the file of each series that is used.
    """

    path: Path
    series: SeriesCollector
    drops_unlabelled: bool = False
    labels: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def take(self, block: NDArray[np.float64], label: str, where: str) -> None:
        """Add a series of shape (steps, features)."""
        number = self.series.seen
        if self.drops_unlabelled and label in UNKNOWN:
            self.series.leave_out("series without a label (data.missing = 'drop')", where)
        elif self.series.add(block, where):
            self.labels.append(label)
            self.places.append(number)

    def new_samples(self, longest: int) -> NewSamples:
        """Return the series as new samples, padded to at least `longest` steps."""
        # If series are left out, indices no longer identify the series of the file.
        dropped = len(self.places) < self.series.seen
        return self.series.new_samples(longest, [str(row) for row in self.places] if dropped else None, "sample")


def series_source(name: str, train: SeriesOfFile, test: SeriesOfFile | None, findings: Findings) -> Source:
    """Return the source of a training file and a test file.

    Raises
    ------
    InputError
        If the test file has other dimensions or classes.
    """
    if test is not None and test.series.features != train.series.features:
        raise InputError(
            f"{test.path}: series of {test.series.features} dimensions, {train.series.features} in {train.path.name}."
        )
    labels = checked_labels(train.labels, train.path)
    test_labels = None if test is None else checked_labels(test.labels, test.path)
    classes, y, test_y = encode_labels(labels, test_labels, "" if test is None else f"{test.path}", findings)
    lengths = train.series.lengths + ([] if test is None else test.series.lengths)
    longest, unequal = max(lengths), min(lengths) < max(lengths)
    return Source(
        kind="series",
        name=name,
        classes=classes,
        train=train.series.part(y, longest, unequal),
        test=None if test is None or test_y is None else test.series.part(test_y, longest, unequal),
        scale=1.0,
        description=f"{train.path.name}: {len(y)} series of {min(lengths)} to {longest} steps in "
        f"{train.series.features} dimensions" + ("" if test_y is None else f", {len(test_y)} for the test"),
        findings=findings,
    )


def train_and_test(path: Path, test_path: str, suffixes: tuple[str, ...]) -> tuple[Path, Path | None]:
    """Return the training file, and the test file or None.

    Parameters
    ----------
    path : Path
        The training file, or a folder with one file ``*_TRAIN`` and at most one ``*_TEST`` of these suffixes.
    test_path : str
        ``data.test_path``.
    suffixes : tuple of str
        Suffixes in small letters; files may be compressed by gzip.

    Raises
    ------
    InputError
        If a folder has no training file, or several files of one part.
    """
    if not path.is_dir():
        return path, Path(test_path) if test_path else None
    parts: dict[str, Path | None] = {}
    for part in ("train", "test"):
        ends = tuple(f"_{part}{suffix}" for suffix in suffixes)
        files = sorted(
            file
            for file in path.iterdir()
            if file.name.lower().removesuffix(".gz").endswith(ends) and file.name[:1] != "."
        )
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise InputError(f"{path}: several files of the {part} part ({names}); name one as data.path.")
        parts[part] = files[0] if files else None
    if parts["train"] is None:
        content = ", ".join(sorted(file.name for file in path.iterdir())[:10]) or "nothing"
        expected = " or ".join(f"*_TRAIN{suffix}" for suffix in suffixes)
        raise InputError(f"{path}: no file {expected} there; found {content}. Name any other file as data.path.")
    return parts["train"], parts["test"] or (Path(test_path) if test_path else None)

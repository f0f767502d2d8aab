"""Predictions as a CSV table."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path
from typing import BinaryIO

import numpy as np

from rcdp_hpc.deploy.formats.base import OutputFormat, Predictions
from rcdp_hpc.runtime.formulas import warn_of_formulas

log = logging.getLogger(__name__)


class CsvFormat(OutputFormat):
    """A line for each sample: its name, its label and the probability of each class. Names are written unchanged.

    An ensemble adds the column ``disagreement``.
    """

    def write(self, file: BinaryIO, predictions: Predictions) -> None:
        """Write predictions; see `OutputFormat.write`."""
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", errors="surrogateescape")
        writer = csv.writer(text, lineterminator="\n")
        sample, label, columns = predictions.header
        writer.writerow([sample, label, *columns, *(["disagreement"] if predictions.has_disagreement else [])])
        classes = predictions.classes
        for ids, block in predictions.with_ids():
            numbers = block.probabilities
            if block.disagreement is not None:
                numbers = np.column_stack([numbers, block.disagreement])
            for name, chosen, row in zip(ids, block.labels, numbers, strict=True):
                writer.writerow([name, classes[chosen], *(f"{value:.6g}" for value in row)])
        # The caller closes the file.
        text.detach()

    def report(self, path: Path, predictions: Predictions) -> None:
        """Warn about the names that a spreadsheet would run as formulas."""
        sample, label, columns = predictions.header
        names = {f"column {sample!r}": predictions.ids or (), f"column {label!r}": predictions.classes}
        warn_of_formulas(log, path, {"first line": [sample, *columns], **names})

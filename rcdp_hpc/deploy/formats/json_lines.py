"""Predictions as JSON lines."""

from __future__ import annotations

import json
from typing import BinaryIO

from rcdp_hpc.deploy.formats.base import OutputFormat, Predictions
from rcdp_hpc.runtime.text import plain_line


class JsonLinesFormat(OutputFormat):
    """A JSON object for each sample: its name, its label, and ``probability`` with the probability of each class.

    The name of the last one is `Predictions.probability_name`. An ensemble adds ``disagreement``.
    """

    def write(self, file: BinaryIO, predictions: Predictions) -> None:
        """Write predictions; see `OutputFormat.write`."""
        sample, label, _ = predictions.header
        classes, key_of_all = predictions.classes, predictions.probability_name
        unsafe = not all(map(_is_plain, [sample, *classes]))
        for ids, block in predictions.with_ids():
            others = [None] * len(block) if block.disagreement is None else block.disagreement.tolist()
            for name, chosen, row, other in zip(ids, block.labels.tolist(), block.probabilities, others, strict=True):
                probability = {key: float(f"{value:.6g}") for key, value in zip(classes, row.tolist(), strict=True)}
                content = {sample: name, label: classes[chosen], key_of_all: probability}
                if other is not None:
                    content["disagreement"] = float(f"{other:.6g}")
                file.write(json.dumps(content, ensure_ascii=unsafe or not _is_plain(str(name))).encode() + b"\n")


def _is_plain(name: str) -> bool:
    """Return whether a name has neither bytes that are not UTF-8 nor control characters, and needs no escapes."""
    return plain_line(name) == name

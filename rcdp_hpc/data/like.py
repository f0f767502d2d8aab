"""Preparation like an earlier one (``data.like``): its classes and standardisation instead of new ones.

A model reads numbers that were scaled with the statistics of its training data. New rows for the same model are scaled
with these statistics, not with their own, and their classes have the numbers that the model knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.groups import with_groups
from rcdp_hpc.data.shards.index import load_index
from rcdp_hpc.data.sources import LabelledArrays, Part, Source, open_source
from rcdp_hpc.data.sources.padding import padded
from rcdp_hpc.data.standardization import Standardization, raw_shape
from rcdp_hpc.errors import InputError

# Facts in the index of the shards that the numbers of a sample depend on.
FACTS = ("classes", "kind", "sample_shape", "scale", "lengths", "columns", "categories", "standardization")


@dataclass(frozen=True)
class Preparation:
    """The facts of an earlier preparation.

    Attributes
    ----------
    facts : mapping
        The keys `FACTS`, as in index.json.
    where : str
        Where they come from, for messages.
    """

    facts: Mapping[str, Any]
    where: str

    @staticmethod
    def of(data: DataSection) -> Preparation | None:
        """Return the preparation that ``data.like`` names: a run directory; None if it names none.

        Raises
        ------
        InputError
            If there are no shards.
        DataDamagedError
            If their index is damaged.
        """
        if not data.like:
            return None
        index = load_index(Path(data.like) / "shards")
        return Preparation({key: index.get(key) for key in FACTS}, data.like)

    @property
    def standardization(self) -> Standardization | None:
        """The map from raw to stored values."""
        return Standardization.from_json(self.facts["standardization"])

    def applied_to(self, source: Source) -> Source:
        """Return a source with the classes and the standardisation of this preparation.

        Raises
        ------
        InputError
            If the source has a class that is not there, or samples of another form.
        """
        classes = self.facts["classes"]
        unknown = [name for name in source.classes if name not in classes]
        if unknown:
            raise InputError(
                f"{source.description}: class {unknown[0]} is not one of the classes of {self.where}: "
                f"{', '.join(classes[:10])}{' ...' if len(classes) > 10 else ''}."
            )
        if self.facts["lengths"]:
            source = _with_steps(source, self.facts["sample_shape"][0])
        columns = None if source.columns is None else asdict(source.columns)
        present = {
            "kind": source.kind,
            "sample_shape": list(source.raw_shape),
            "scale": source.scale,
            "lengths": source.has_lengths,
            "columns": _decisive(columns),
            "categories": list(source.categories),
        }
        for key, value in present.items():
            expected = _decisive(self.facts[key]) if key == "columns" else self.facts[key]
            if key == "sample_shape":
                expected = list(raw_shape(self.standardization, tuple(self.facts[key])))
            if value != expected:
                raise InputError(f"{source.description}: {key} is {value}, and {expected} in {self.where}.")
        numbers = np.array([classes.index(name) for name in source.classes], np.int64)
        train, test = (part if part is None else _renumbered(part, numbers) for part in (source.train, source.test))
        assert train is not None
        return replace(source, classes=list(classes), train=train, test=test, standardization=self.standardization)


def open_like(
    data: DataSection, progress: bool = False, arrays: LabelledArrays | None = None
) -> tuple[Source, Preparation | None]:
    """Open a source, with the classes and the standardisation of the preparation that ``data.like`` names, if any.

    Its groups are joined. Parameters and errors are those of `rcdp_hpc.data.sources.open_source`,
    `rcdp_hpc.data.groups.with_groups` and `Preparation`.
    """
    earlier = Preparation.of(data)
    if earlier is None:
        return with_groups(open_source(data, progress, arrays), data), None
    source = with_groups(open_source(data, progress, arrays, fewest_classes=1), data)
    return earlier.applied_to(source), earlier


def _with_steps(source: Source, longest: int) -> Source:
    """Return series that are padded to `longest` steps; those with more steps stay, and are refused by their shape."""

    def part(one: Part) -> Part:
        steps = one.x.shape[1]
        lengths = np.full(len(one), steps, np.int64) if one.lengths is None else one.lengths
        return one if steps > longest else replace(one, x=padded(one.x, lengths, longest), lengths=lengths)

    return replace(source, train=part(source.train), test=None if source.test is None else part(source.test))


def _decisive(columns: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the facts about the columns of a table that decide its numbers."""
    return None if columns is None else {key: columns[key] for key in ("features", "categories")}


def _renumbered(part: Part, numbers: np.ndarray) -> Part:
    return replace(part, y=numbers[part.y])

"""The exact sums of a solved readout, kept in a file next to its model (``readout.keep_sums``).

=============  ====================================  ===================================================
array          shape                                 meaning
=============  ====================================  ===================================================
facts          (bytes,), uint8                       JSON: classes, settings, facts of the preparation
xx_ROLE_N      (G, F (F + 1) / 2), int64             X'X of unit N, by columns down to the diagonal
xy_ROLE_N      (F, K), int64                         X'Y of unit N
counts_ROLE_N  (K,), int64                           rows of each class of unit N
=============  ====================================  ===================================================

ROLE is ``train`` or ``validation``, N the place of the unit in ``facts["units"]``. All sums are multiples of 2^-36
(`rcdp_hpc.training.solve.exact_sums`). The file ends with the SHA-256 of its bytes.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import LossSection
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.model.class_weights import class_weights
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.runtime.json_text import parse_json
from rcdp_hpc.runtime.sealed_zip import open_sealed_zip, write_sealed_zip
from rcdp_hpc.training.solve.exact_sums import ExactSums, packed_size

FORMAT = 1
ROLES = ("train", "validation")
PARTS = ("xx", "xy", "counts")
RESTORE = "Restore the file from a backup, or train again with --restart."


@dataclass(frozen=True)
class Unit:
    """The sums of the rows that can be forgotten together.

    Attributes
    ----------
    train, validation : ExactSums or None
        The sums of its training rows and of its validation rows; None if it has none.
    """

    train: ExactSums | None = None
    validation: ExactSums | None = None

    def of(self, role: str) -> ExactSums | None:
        """Return the sums of a role of `ROLES`."""
        return self.train if role == "train" else self.validation


@dataclass(frozen=True)
class SumsFacts:
    """What the sums belong to.

    Attributes
    ----------
    classes : list of str
        Names of the classes.
    features : int
        Features of the readout.
    by_class : bool
        Whether X'X is kept for each class.
    settings : dict
        Sections of the configuration that decide features and readout.
    preparation : dict
        Facts of the preparation that features depend on, such as scale and standardisation.
    learned : str
        SHA-256 of what the extractor learned, and of the user's matrices.
    reading : dict
        The sections ``data`` and ``run`` of the first fit, and whether its source had a test set of its own.
    shards : list of str
        Digests of the shards and files that the units come from.
    weights : str
        SHA-256 of the readout's weights that are solved from the sums.
    """

    classes: list[str]
    features: int
    by_class: bool
    settings: dict[str, Any]
    preparation: dict[str, Any] = field(default_factory=dict)
    learned: str = ""
    reading: dict[str, Any] = field(default_factory=dict)
    shards: list[str] = field(default_factory=list)
    weights: str = ""

    @property
    def has_named_units(self) -> bool:
        """Whether the units are those of ``data.unit_pattern``, not shards."""
        return bool(self.reading.get("data", {}).get("unit_pattern"))


@dataclass(frozen=True, eq=False)
class KeptSums:
    """Exact sums by unit.

    Attributes
    ----------
    facts : SumsFacts
    by_unit : mapping of str to Unit
        The units by name.
    where : str
        The file, for messages.
    """

    facts: SumsFacts
    by_unit: Mapping[str, Unit]
    where: str = "the sums"

    @property
    def units(self) -> list[str]:
        """Names of the units."""
        return list(self.by_unit)

    @cached_property
    def exact_total(self) -> ExactSums:
        """The sums of the training rows of all units."""
        return self._sum("train")

    @cached_property
    def exact_validation(self) -> ExactSums:
        """The sums of the validation rows of all units."""
        return self._sum("validation")

    @property
    def total(self) -> GramSums:
        """The sums of the training rows, with the weights of the classes."""
        return self.exact_total.gram(self.class_weights)

    @property
    def validation(self) -> GramSums:
        """The sums of the validation rows, with the weights of the classes."""
        return self.exact_validation.gram(self.class_weights)

    @property
    def class_weights(self) -> NDArray[np.float64] | None:
        """The weight of a row of each class, with mean 1 over the training rows; None if all weights are 1.

        Raises
        ------
        InputError
            If weights are needed and a class has no training row.
        """
        if not self.facts.by_class:
            return None
        counts, loss = self.exact_total.counts, LossSection.model_validate(self.facts.settings["loss"])
        if not counts.all():
            missing = self.facts.classes[int(np.argmin(counts))]
            raise InputError(
                f"{self.where}: loss.class_weights = {loss.class_weights!r} needs training rows of every class, and "
                f"class {missing} has none left."
            )
        return class_weights(loss, counts)

    def _sum(self, role: str) -> ExactSums:
        total = ExactSums.empty(self.facts.features, len(self.facts.classes), self.facts.by_class)
        for unit in self.by_unit.values():
            sums = unit.of(role)
            if sums is not None:
                total += sums
        return total

    @staticmethod
    def read(path: str | Path) -> KeptSums:
        """Read a file of sums.

        Raises
        ------
        DataDamagedError
            If the file is missing, truncated or altered, or was not written by `write`.
        """
        path = Path(path)
        try:
            with open_sealed_zip(path) as file, np.load(file, allow_pickle=False) as content:
                facts, names = _facts(content["facts"])
                units = {name: _unit(content, facts, place) for place, name in enumerate(names)}
        except DataDamagedError as error:
            raise DataDamagedError(f"{error} {RESTORE}") from None
        except (OSError, ValueError, EOFError, KeyError, TypeError, MemoryError, zipfile.BadZipFile) as error:
            raise DataDamagedError(f"{path}: not the sums of a readout ({error}). {RESTORE}") from None
        return KeptSums(facts, units, str(path))

    def write(self, path: Path) -> None:
        """Write the file atomically."""

        def write(file: Any) -> None:
            with zipfile.ZipFile(file, "w") as archive:
                for name, array in self._arrays():
                    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, array, allow_pickle=False)

        path.parent.mkdir(parents=True, exist_ok=True)
        write_sealed_zip(path, write)

    def _arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        facts = {"format": FORMAT, "units": self.units, **vars(self.facts)}
        yield "facts", np.frombuffer(json.dumps(facts, sort_keys=True).encode(), np.uint8)
        for place, unit in enumerate(self.by_unit.values()):
            for role in ROLES:
                sums = unit.of(role)
                for part in PARTS if sums is not None else ():
                    yield f"{part}_{role}_{place}", getattr(sums, part)


def sums_path(model: Path) -> Path:
    """Return the file with the sums of a model file: ``sums.npz`` of ``model.pt``, ``NAME.sums.npz`` of another."""
    return model.with_name("sums.npz" if model.name == "model.pt" else f"{model.stem}.sums.npz")


def _facts(content: NDArray[Any]) -> tuple[SumsFacts, list[str]]:
    facts = parse_json(content.tobytes())
    if not isinstance(facts, dict) or facts.pop("format", None) != FORMAT:
        raise ValueError(f"expected format {FORMAT}")
    names = facts.pop("units")
    result = SumsFacts(**facts)
    texts = [*names, *result.classes, *result.shards]
    if not all(type(text) is str for text in texts) or len(set(names)) < len(names):
        raise ValueError("expected names of units and classes")
    if type(result.features) is not int or result.features < 1 or not result.classes:
        raise ValueError("expected features and classes")
    if not all(isinstance(part, dict) for part in (result.settings, result.preparation, result.reading)):
        raise ValueError("expected settings and facts of the preparation")
    return result, names


def _unit(content: Any, facts: SumsFacts, place: int) -> Unit:
    return Unit(*(_sums(content, facts, f"{role}_{place}") for role in ROLES))


def _sums(content: Any, facts: SumsFacts, suffix: str) -> ExactSums | None:
    if f"counts_{suffix}" not in content:
        return None
    arrays = [content[f"{part}_{suffix}"] for part in PARTS]
    features, classes = facts.features, len(facts.classes)
    shapes = [(classes if facts.by_class else 1, packed_size(features)), (features, classes), (classes,)]
    if any(array.dtype != np.int64 for array in arrays) or [array.shape for array in arrays] != shapes:
        raise ValueError(f"expected sums of {features} features and {classes} classes")
    return ExactSums(*arrays)

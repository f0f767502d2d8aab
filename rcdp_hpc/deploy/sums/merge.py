"""`rcdp merge` and `rcdp forget`: readouts solved from the sums of several models, or without those of some units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rcdp_hpc.config import flatten
from rcdp_hpc.deploy.sums.summed_model import SummedModel, SumsResult, refuse_input_as_output, write_solution
from rcdp_hpc.errors import InputError
from rcdp_hpc.training.solve.kept_sums import KeptSums
from rcdp_hpc.training.solve.unit_sums import refuse_unknown_units

# Digits of the digest of the shards in the name of a merged shard.
DIGITS = 8


def merge_models(models: Sequence[Path], to: Path) -> SumsResult:
    """Solve a readout from the rows of several models, and write it.

    The result has the bits of a training on the union of the units, with the extractor, standardisation and classes of
    the first model.

    Parameters
    ----------
    models : sequence of Path
        Run directories or model files, two or more.
    to : Path
        The model file; the sums are written next to it.

    Raises
    ------
    InputError
        If models have other settings, classes, standardisation or extractors, share a unit, or have no sums.
    DataDamagedError
        If a file is damaged.
    """
    if len(models) < 2:
        raise InputError("rcdp merge needs two models or more.")
    refuse_input_as_output(models, to)
    first = SummedModel.read(models[0])
    kept = with_global_names(first.kept)
    for path in models[1:]:
        kept = merged(kept, with_global_names(SummedModel.read(path).kept))
    return write_solution(first, kept, to)


def forget_units(model: Path, units: Sequence[str], to: Path) -> SumsResult:
    """Solve a readout without the rows of some units, and write it.

    The result has the bits of a training on the other units, with the same extractor, standardisation and classes.

    Parameters
    ----------
    model : Path
        A run directory or a model file.
    units : sequence of str
        Names of units.
    to : Path
        The model file; the sums are written next to it.

    Raises
    ------
    InputError
        If a unit was never there, or no rows are left.
    DataDamagedError
        If a file is damaged.
    """
    refuse_input_as_output([model], to)
    first = SummedModel.read(model)
    kept = first.kept
    refuse_unknown_units(kept.where, units, kept.units)
    rest = {name: unit for name, unit in kept.by_unit.items() if name not in units}
    return write_solution(first, KeptSums(kept.facts, rest, kept.where), to)


def merged(first: KeptSums, other: KeptSums) -> KeptSums:
    """Return the units of two files of sums.

    Raises
    ------
    InputError
        If they do not belong together, or share a unit.
    """
    refuse_other_facts(first, other)
    twice = sorted(set(first.units) & set(other.units))
    if twice:
        raise InputError(
            f"{other.where}: unit {twice[0]} is in {first.where}, too: its rows would count twice. Forget it in one of "
            "them first (rcdp forget)."
        )
    facts = replace(first.facts, shards=[*first.facts.shards, *other.facts.shards])
    return KeptSums(facts, {**first.by_unit, **other.by_unit}, first.where)


def refuse_other_facts(first: KeptSums, other: KeptSums) -> None:
    """Raise an `InputError` if two files of sums do not belong to one readout."""
    one, two = first.facts, other.facts
    where = f"{other.where} and {first.where}"
    if one.classes != two.classes:
        raise InputError(
            f"{where} have other classes: {', '.join(two.classes[:10])} and {', '.join(one.classes[:10])}. Prepare "
            "the second with data.like, the run directory of the first."
        )
    _refuse_differences(where, "settings", one.settings, two.settings, "Train with the settings of the first.")
    _refuse_differences(
        where, "preparations", one.preparation, two.preparation,
        "Prepare the second with data.like, the run directory of the first.",
    )  # fmt: skip
    if (one.features, one.learned) != (two.features, two.learned):
        raise InputError(
            f"{where} have other extractors: what an extractor learns depends on its rows. Add the rows of the second "
            "to the first with rcdp update, which leaves the extractor as it is."
        )


def _refuse_differences(where: str, what: str, one: Mapping[str, Any], two: Mapping[str, Any], remedy: str) -> None:
    old, new = flatten(one), flatten(two)
    keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    if keys:
        listed = ", ".join(f"{key} ({_short(new.get(key))} and {_short(old.get(key))})" for key in keys[:5])
        more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
        raise InputError(f"{where} have other {what}: {listed}{more}. {remedy}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def with_global_names(kept: KeptSums) -> KeptSums:
    """Return sums whose units have names that other runs do not have: a shard gets the digest of the shards."""
    facts = kept.facts
    if facts.has_named_units or len(facts.shards) != 1:
        return kept
    return replace(kept, by_unit={f"{facts.shards[0][:DIGITS]}/{name}": unit for name, unit in kept.by_unit.items()})

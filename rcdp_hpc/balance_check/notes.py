"""What a check assumes, leaves out and depends on, for its record."""

from __future__ import annotations

from typing import Any

import torch

from rcdp_hpc.balance_check.intervals import LEVEL
from rcdp_hpc.balance_check.rows import CheckRows
from rcdp_hpc.config import Config
from rcdp_hpc.evaluation.report.text import listed
from rcdp_hpc.evaluation.stage import versions
from rcdp_hpc.networks.extractors import extractor_of
from rcdp_hpc.runtime.text import plain_name


def data_record(rows: CheckRows) -> dict[str, Any]:
    """Return the facts of the rows."""
    counts = rows.counts()
    return {
        "description": rows.source.description,
        "kind": rows.facts.kind,
        "rows": len(rows.labels),
        "classes": rows.classes,
        "counts": counts.sum(axis=0).tolist(),
        "fold_counts": counts.tolist(),
    }


def settings_record(
    config: Config,
    rows: CheckRows,
    criterion: str,
    threads: int,
    device: torch.device,
    width: int,
    by_class: bool | None,
) -> dict[str, Any]:
    """Return the settings that the numbers depend on."""
    return {
        "criterion": criterion,
        "folds": rows.fold_count,
        "seed": config.run.seed,
        "penalties": sorted(set(config.readout.ridge_penalties)),
        "features": width,
        "kernel": str(config.reservoir.kernel),
        "precision": config.readout.ridge_precision,
        "threads": threads,
        "device": device.type,
        "sums_by_class": by_class,
        "level": LEVEL,
        "versions": versions(),
    }


def notes_of(config: Config, rows: CheckRows, by_class: bool | None) -> list[str]:
    """Return what is assumed and left out, as sentences."""
    notes = [
        "The rows are those of the training and validation parts; the test part is not used.",
        "Standardisation and learned features are fitted to all of these rows, those of every fold included, without "
        "labels.",
        *_small_classes(rows),
    ]
    if rows.grouped:
        notes.append("Folds keep groups together. Intervals over rows take the rows of a group as independent.")
    if rows.fold_count == 2 and any(len(one.synthetic) for one in rows.resampled.values()):
        notes.append("With two folds, synthetic rows between rows of both never count: SMOTE has fewer than in a run.")
    if by_class is None:
        notes.append("There are fewer rows than features: features are standardised once, by all rows.")
    if by_class is False:
        notes.append("Class weights are those of all rows: sums by class did not fit into memory.")
    if config.readout.kind != "ridge":
        notes.append(
            f"A ridge readout stands for readout.kind = {config.readout.kind!r}: another readout may gain less or more."
        )
    if config.has_search:
        notes.append("The reservoir is the configured one, not the best of a search.")
    if config.reservoir.noise:
        notes.append("States are computed without reservoir.noise.")
    if config.augment.shifts:
        notes.append("Images are not shifted (augment.shifts).")
    if extractor_of(config, rows.source.sample_shape).joined_features:
        notes.append("Features of the extractor and states have equal weights (extractor.kernel_weights is not used).")
    return notes


def _small_classes(rows: CheckRows) -> list[str]:
    """Name the classes that a fold does not hold out, and those without any row."""
    counts = rows.counts()
    totals = counts.sum(axis=0)
    absent = [plain_name(name) for name, total in zip(rows.classes, totals, strict=True) if not total]
    partly = [
        f"{plain_name(name)} ({total})"
        for name, total, column in zip(rows.classes, totals, counts.T, strict=True)
        if total and not column.all()
    ]
    notes = []
    if absent:
        notes.append(f"Without rows, and not evaluated: class {listed(absent)}.")
    if partly:
        notes.append(
            f"Absent from some folds, whose measures are those of the other classes: class {listed(partly)} (rows)."
        )
    return notes

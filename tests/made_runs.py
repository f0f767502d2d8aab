"""Run directories with the records of a finished run, made without training: for reports of any size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rcdp_hpc.config import load_config
from rcdp_hpc.evaluation.confusion import result_of_test, write_cells
from rcdp_hpc.runtime.digests import append_sealed, write_sealed, write_sealed_lines
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.search.records.best import Best, write_best

SPACE = {"density": (0.01, 0.3), "spectral_radius": (0.3, 1.5), "leak": (0.3, 1.0)}
SETTINGS = [f"search.space.{name}={{low={low}, high={high}}}" for name, (low, high) in SPACE.items()]


@dataclass(frozen=True)
class Made:
    """What a made run has.

    Attributes
    ----------
    classes : sequence of str
    candidates : int
        0 for a run without a search.
    epochs : int
        0 for a readout that is solved.
    ranks : int
    seed : int
        Of the confusion matrix.
    """

    classes: Sequence[str] = ("cat", "dog", "frog")
    candidates: int = 20
    epochs: int = 12
    ranks: int = 1
    seed: int = 1

    def confusion(self) -> np.ndarray:
        """Return a matrix with most samples on its diagonal; the first class has 20 of 25 right."""
        generator = np.random.default_rng(self.seed)
        count = len(self.classes)
        matrix = generator.poisson(30 / count, (count, count)) + np.diag(generator.integers(40, 90, count))
        if self.seed == 1:
            matrix[0] = 0
            matrix[0, 0], matrix[0, 1] = 20, 5
        return matrix.astype(np.int64)


def make_run(path: Path, made: Made = Made(), extra: Sequence[str] = ()) -> RunDirectory:
    """Write all records of a finished run."""
    run = RunDirectory(path)
    search = (
        [f"search.generations={max(1, made.candidates // 10)}", *SETTINGS]
        if made.candidates
        else ["search.generations=0"]
    )
    config = load_config("digits", [*search, *extra])
    run.write_config(config)
    _write_index(run, made)
    search_result = _write_search(run, made) if made.candidates else {}
    _write_training(run, made)
    run.model.parent.mkdir(parents=True, exist_ok=True)
    run.model.write_bytes(b"a model")
    result = result_of_test(made.confusion(), made.classes)
    result["ridge"] = {name: result[name] for name in ("accuracy", "correct", "samples", "macro_f1")}
    run.report.mkdir(parents=True, exist_ok=True)
    write_cells(made.confusion(), run.report)
    train_result = {"epochs": made.epochs, "validation_accuracy": 0.8, "threads": 1, "replaced": [],
                    "ended": "patience" if made.epochs else "solved"}  # fmt: skip
    if made.epochs:
        train_result |= {
            "compute_seconds": [10.0 + rank for rank in range(made.ranks)],
            "wait_seconds": [float(made.ranks - 1 - rank) for rank in range(made.ranks)],
            "communicate_seconds": [1.0] * made.ranks,
        }
    results = {"prepare": {"train": 1, "validation": 1, "test": 1}, "search": search_result, "train": train_result,
               "evaluate": result}  # fmt: skip
    for stage, one in results.items():
        run.record_state(
            stage, "done", seconds=3.0, ranks=made.ranks, started=1.0, result=one, command=["rcdp", "run", "digits"],
            machines=[{"processor": "a processor", "numpy": "2", "variables": {}, "ranks": made.ranks}],
        )  # fmt: skip
    write_summary(run, made, result)
    return run


def write_summary(run: RunDirectory, made: Made, result: dict[str, Any]) -> None:
    """Write ``report/summary.json`` of a run."""
    write_sealed(
        run.report / "summary.json",
        {
            "test": result,
            "classes": list(made.classes),
            "seconds": {"train": 3.0},
            "seed": 1,
            "versions": {"numpy": "2"},
        },
    )


def log_lines(run: RunDirectory, *entries: tuple[str, str]) -> None:
    """Append (level, message) to the log of a run."""
    with run.log.open("a") as file:
        for number, (level, message) in enumerate(entries):
            file.write(json.dumps({"time": 1000.0 + number, "level": level, "message": message}) + "\n")


def _write_index(run: RunDirectory, made: Made) -> None:
    count = len(made.classes)
    before = [5 + 7 * (label % 5) for label in range(count)]
    after = [max(before)] * count
    synthetic = [new - old for new, old in zip(after, before, strict=True)]
    table = [
        {"class": name, "source": old + 20, "dropped": 0, "before": old, "wanted": new, "after": new, "validation": 5,
         "test": 10}
        for name, old, new in zip(made.classes, before, after, strict=True)
    ]  # fmt: skip

    def split(prefix: str, counts: list[int], made_rows: list[int]) -> dict[str, Any]:
        shard = {"file": f"{prefix}-00000-of-00001.h5", "rows": sum(counts), "class_counts": counts,
                 "synthetic_counts": made_rows, "bytes": 1, "sha256": "0" * 64}  # fmt: skip
        return {"rows": sum(counts), "class_counts": counts, "synthetic_counts": made_rows, "shards": [shard]}

    none = [0] * count
    write_sealed(
        run.shards / "index.json",
        {
            "format": "rcdp-shards", "format_version": 4, "classes": list(made.classes), "sample_shape": [8, 8],
            "scale": 1.0, "storage": {"kind": "float32"}, "lengths": False, "shortest": None, "categories": [],
            "columns": None, "kind": "images", "standardization": None, "ranges": None, "test_ids": None, "seed": 1,
            "settings": {"data": {"balance": "smote"}, "run": {"seed": 1}},
            "source": {"name": "made", "description": "made samples", "dtype": "float32",
                       "samples": sum(before) + 20 * count, "sha256": "1" * 64},
            "class_table": table,
            "splits": {"train": split("train", after, synthetic), "validation": split("val", [5] * count, none),
                       "test": split("test", [10] * count, none)},
        },
    )  # fmt: skip


def _write_search(run: RunDirectory, made: Made) -> dict[str, Any]:
    """Write a search in which the density matters most: the fitness is largest at its lower bound."""
    generator = np.random.default_rng(0)
    lines = []
    for number in range(made.candidates):
        values = {name: float(generator.uniform(low, high)) for name, (low, high) in SPACE.items()}
        if number == made.candidates - 1:
            values["density"] = 0.01
        fitness = 100 - 100 * values["density"] + values["leak"] + float(generator.normal(0, 0.01))
        failed = number % 20 == 7
        lines.append({
            "generation": 1 + number // 10, "candidate": number % 10, "values": values, "position": [0.0],
            "fitness": None if failed else fitness, "error": 1 / fitness, "accuracy": 0.9,
            "reason": "no cycle <b>" if failed else None, "share": 1.0, "reused": False,
            "timing": {"rank": number % made.ranks, "seconds": 0.5},
        })  # fmt: skip
    write_sealed_lines(run.search / "history.jsonl", lines)
    for generation in range(1, 1 + lines[-1]["generation"]):
        usage = {"generation": generation, "candidates": 10, "ranks": made.ranks, "workers": made.ranks, "wall": 10.0,
                 "busy": 8.0 * made.ranks, "slowest": 9.0}  # fmt: skip
        append_sealed(run.search / "generations.jsonl", usage)
    winner = max((line for line in lines if line["fitness"] is not None), key=lambda line: line["fitness"])
    best = {name: winner[name] for name in ("values", "fitness", "error", "accuracy", "generation", "candidate")}
    write_best(run.best_candidate, Best(**best, evaluations=made.candidates, seconds=1.0))
    return {**best, "evaluations": made.candidates}


def _write_training(run: RunDirectory, made: Made) -> None:
    lines = [
        {
            "epoch": epoch, "train_loss": 2 / (epoch + 1), "train_accuracy": 0.9, "validation_accuracy": 0.8,
            "validation_loss": 2 / (epoch + 1) + 0.1 * max(0, epoch - 6), "learning_rate": 0.001, "gradient_norm": 1.0,
            "skipped_steps": 0, "seconds": 1.0, "compute_seconds": [1.0] * made.ranks,
            "wait_seconds": [0.25] * made.ranks, "communicate_seconds": [0.0] * made.ranks,
        }
        for epoch in range(made.epochs)
    ]  # fmt: skip
    if lines:
        write_sealed_lines(run.train / "metrics.jsonl", lines)

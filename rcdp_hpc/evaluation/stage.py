"""The stage "evaluate": the scores of the trained model on the test split, over all ranks."""

from __future__ import annotations

import logging
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import rcdp_hpc
from rcdp_hpc.config import STAGES, Config
from rcdp_hpc.data.shards.reader import ShardReader, open_shards
from rcdp_hpc.data.split import slab_bounds
from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.evaluation.compared import RIDGE, compared_lines, compared_record
from rcdp_hpc.evaluation.confusion import baseline_scores, class_lines, named, result_of_test, write_cells
from rcdp_hpc.evaluation.drawing import draw_report
from rcdp_hpc.evaluation.predictions import TestPredictions
from rcdp_hpc.evaluation.score_record import score_lines
from rcdp_hpc.evaluation.scores import TestRows, TestScores
from rcdp_hpc.evaluation.trees import score_trees, tree_lines, wants_trees
from rcdp_hpc.model.complexity import complexity
from rcdp_hpc.model.criteria.measured import Measured
from rcdp_hpc.model.metrics import confusion_matrix
from rcdp_hpc.model.trained_model import FEWEST_ROWS, TrainedModel
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.code_consent import code_named_by
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agree_on_root, run_on_root
from rcdp_hpc.runtime.device import device, set_up_device
from rcdp_hpc.runtime.digests import file_sha256, write_sealed
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.stage_context import StageContext
from rcdp_hpc.runtime.text import wrap_items
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.training.stage import refuse_other_shards
from rcdp_hpc.training.threads import threads_of_test

log = logging.getLogger(__name__)

BLOCK_ROWS = 4096


def evaluate(context: StageContext, allow_code: bool = False) -> dict[str, Any]:
    """Evaluate the trained model on the test split.

    Parameters
    ----------
    context : StageContext
        Each rank of the job evaluates a part of the test rows. The shards and the model of the run directory are read;
        ``report/summary.json``, ``report/predictions.csv`` and the pictures are written.
    allow_code : bool
        Import classes that the model file names and the configuration does not.

    Returns
    -------
    dict
        The scores as `result_of_test` returns them; ``uncalibrated``, the criteria of the probabilities before
        calibration, if the model is calibrated; ``ridge``, the scores of the ridge baseline if there is one;
        ``trees``, for a table, the scores of boosted trees as `score_trees` returns them.

    Raises
    ------
    InputError
        If there is no model, or it names code that is not allowed.
    DataDamagedError
        If model or shards are damaged, do not belong together, or the model gives scores that are not finite.
    StoppedError
        If a signal requests a stop.
    """
    config, comm, run = context.config, context.comm, context.run
    started = time.perf_counter()
    shards = agree(comm, lambda: open_shards(config, run.shards))
    if comm.is_root and run.state("train").get("status") != "done":
        log.warning("the training has not finished: this is its best model so far")
    threads = threads_of_test(config, comm, shards)
    with limit_threads(threads):
        rows_here = _RowsHere(TestPredictions(), TestScores(shards.classes))
        model = agree(comm, lambda: _model(config, run, shards, allow_code))
        agree(comm, lambda: _answer_slab(config, comm, run, shards, rows_here, model))
    rows_here.predictions.write(comm, shards, run.report / "predictions.csv")
    measured, uncalibrated, rows = rows_here.scores.measure(comm, config.run.seed)
    result, confusion, compared = run_on_root(
        comm, lambda: _results(rows, measured, uncalibrated, shards.classes, config.run.seed)
    )
    trees = run_on_root(comm, lambda: _trees(config, shards, None if rows is None else rows.predicted))
    if trees is not None:
        result["trees"] = trees
    size = run_on_root(comm, lambda: complexity(model, shards.read("test", 0, min(FEWEST_ROWS, shards.rows("test"))).x))
    seconds = time.perf_counter() - started
    if comm.is_root:
        _log_result(result, confusion, compared, shards.classes)
        log.info("%s", size.line())
    facts = {"seconds": seconds, "threads": threads, "complexity": size.to_json(), "compared": compared}
    agree_on_root(comm, lambda: _write_report(config, comm, run, shards, result, confusion, facts))
    return result


def _model(config: Config, run: RunDirectory, shards: ShardReader, allow_code: bool) -> TrainedModel:
    where = device(config.training.device)
    set_up_device(where, config)
    model = TrainedModel.load(run.model, where, allow_code, code_named_by(config).values())
    refuse_other_shards(str(run.model), model.shards, shards)
    return model


class _RowsHere(NamedTuple):
    """What is recorded of this rank's test rows."""

    predictions: TestPredictions
    scores: TestScores


def _answer_slab(
    config: Config, comm: Communicator, run: RunDirectory, shards: ShardReader, rows_here: _RowsHere,
    model: TrainedModel,
) -> None:  # fmt: skip
    """Record the answers of the model, and of the ridge baseline if there is one, for this rank's rows."""
    start, stop = slab_bounds(shards.rows("test"), comm.rank, comm.size)
    ridge = TrainedModel.load_baseline(run.train / "ridge.pt", model)
    with Progress("test", stop - start, enabled=comm.is_root and config.run.progress) as progress:
        for low in range(start, stop, BLOCK_ROWS):
            signals.raise_if_stopped("evaluating")
            rows = shards.read("test", low, min(low + BLOCK_ROWS, stop))
            done = 0
            for states, labels in model.blocks(rows.x, rows.y, rows.length):
                answers = model.answers_of(states)
                _refuse_non_finite(run.model, answers.probabilities, low + done)
                solved = None if ridge is None else ridge(states)
                if solved is not None:
                    _refuse_non_finite(run.train / "ridge.pt", solved, low + done)
                rows_here.predictions.add(rows.source_index[done : done + len(labels)], labels, answers)
                rows_here.scores.add(labels, answers, solved)
                done += len(labels)
            progress.advance(len(rows.y))


def _results(
    rows: TestRows | None, measured: Measured, uncalibrated: dict[str, float], classes: list[str], seed: int
) -> tuple[dict[str, Any], NDArray[np.int64], list[dict[str, Any]]]:
    """Return the result of the test, its confusion matrix and the comparisons with baselines, on rank 0."""
    if rows is None:
        raise RuntimeError("rows are gathered on rank 0 only")
    confusion = confusion_matrix(rows.labels, rows.predicted, len(classes))
    result = result_of_test(confusion, classes, measured)
    if uncalibrated:
        result["uncalibrated"] = uncalibrated
    if rows.ridge is None:
        return result, confusion, []
    result["ridge"] = baseline_scores(confusion_matrix(rows.labels, rows.ridge, len(classes)), classes)
    compared = compared_record(RIDGE, rows.labels, rows.predicted, rows.ridge, classes, seed)
    return result, confusion, [compared]


def _refuse_non_finite(file: Path, scores: NDArray[np.float32], first: int) -> None:
    """Raise a `DataDamagedError` if scores are not finite; `first` is the number of the first test row."""
    rows = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(rows):
        raise DataDamagedError(
            f"{file}: gives NaN or infinite scores for {len(rows)} of the test rows {first} to "
            f"{first + len(scores) - 1}, the first is {first + int(rows[0])}. Train again with --restart."
        )


def _trees(config: Config, shards: ShardReader, predicted: NDArray[np.int64] | None) -> dict[str, Any] | None:
    """Return the scores of boosted trees for a table, on rank 0; None for other data."""
    if predicted is None or not wants_trees(config, shards):
        return None
    return score_trees(config, shards, predicted)


def _log_result(
    result: dict[str, Any], confusion: NDArray[np.int64], compared: list[dict[str, Any]], classes: list[str]
) -> None:
    log.info(
        "test accuracy %.2f %% (%d of %d samples), macro F1 %.4f, balanced accuracy %.4f",
        100 * result["accuracy"], result["correct"], result["samples"], result["macro_f1"], result["balanced_accuracy"],
    )  # fmt: skip
    for line in (*score_lines(result), *(line for one in compared for line in compared_lines(one))):
        log.info("%s", line)
    for line in tree_lines(result, result["trees"]) if "trees" in result else ():
        log.info("%s", line)
    for line in class_lines(result, confusion, classes):
        log.info("%s", line)
    if result["absent"]:
        count = f"{len(result['absent'])} of {len(classes)} classes"
        for line in wrap_items(f"{count} without test samples: ", named(result["absent"])):
            log.info("%s", line)
        log.info("  (they have no scores of their own, and count in macro F1 only if predicted, as in scikit-learn)")


def _write_report(
    config: Config,
    comm: Communicator,
    run: RunDirectory,
    shards: ShardReader,
    result: dict[str, Any],
    confusion: NDArray[np.int64],
    facts: dict[str, Any],
) -> None:
    """Write the summary and the pictures; `facts` holds ``seconds``, ``threads``, ``complexity``, ``compared``."""
    states = {stage: run.state(stage) for stage in STAGES}
    timings = {stage: states[stage]["seconds"] for stage in STAGES if "seconds" in states[stage]}
    summary = {
        "test": result,
        "compared": facts["compared"],
        "complexity": facts["complexity"],
        "model": file_sha256(run.model),
        "classes": shards.classes,
        "seconds": {**timings, "evaluate": facts["seconds"]},
        "training": states["train"].get("result", {}),
        "search": states["search"].get("result", {}),
        "ranks": {
            "evaluate": comm.size,
            **{stage: state["ranks"] for stage, state in states.items() if "ranks" in state},
        },
        "machines": {
            stage: [*state.get("earlier_machines", ()), *state.get("machines", ())] for stage, state in states.items()
        },
        "kernel": config.reservoir.kernel,
        "threads": {**_threads(states), "evaluate": facts["threads"]},
        "seed": config.run.seed,
        "versions": versions(),
    }
    write_cells(confusion, run.report)
    write_sealed(run.report / "summary.json", summary)
    log.info("wrote %s", run.report / "summary.json")
    draw_report(run, confusion, shards.classes)


def _threads(states: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Return the threads per rank of the stages that recorded them."""
    recorded = {stage: {**(state.get("result") or {}), **state}.get("threads") for stage, state in states.items()}
    return {stage: threads for stage, threads in recorded.items() if threads is not None}


def versions() -> dict[str, str]:
    """Return the versions of this package, of Python and of the libraries that a result depends on."""
    versions = {"rcdp_hpc": rcdp_hpc.__version__, "python": platform.python_version()}
    for name in ("numpy", "scipy", "scikit-learn", "imbalanced-learn", "h5py", "torch", "horovod", "mpi4py"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions

"""The training stage of a readout that is solved: from shards to a model, on all ranks."""

from __future__ import annotations

import json
import logging
import math
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rcdp_hpc.config import TRAINING_SECTIONS, Config, refuse_other_settings, settings_that_matter
from rcdp_hpc.config.choices import READOUTS
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.repair import replaced_files
from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.model.class_weights import report_settings_without_effect
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.networks.learned_source import learned_of
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agree_on_root
from rcdp_hpc.runtime.digests import read_sealed, write_sealed
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.training.calibration import answer_rule, check_answers, natural_counts
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.resume_file import read_checkpoint
from rcdp_hpc.training.solve.elm_rows import room_for_states, stored
from rcdp_hpc.training.solve.kept_solve import solve_keeping_sums, write_sums
from rcdp_hpc.training.solve.layer_file import LayerFile
from rcdp_hpc.training.solve.members import Members, solve_members
from rcdp_hpc.training.solve.ridge import outcome
from rcdp_hpc.training.solve.ridge_rows import drawn_rows, streamed_source
from rcdp_hpc.training.solve.solver import solver_of

SOLVE_AGAIN = "Solve the readout again with rcdp train --restart."
# Bytes of a number of the states that are stored.
STATE_BYTES = 4

log = logging.getLogger(__name__)


def solve_readout(
    config: Config,
    comm: Communicator,
    run: RunDirectory,
    shards: ShardReader,
    reservoir: StateSource,
    plan: BatchPlan,
    threads: int,
) -> dict[str, Any]:
    """Run the training stage for a readout that is solved. Collective.

    Returns
    -------
    dict
        Left-out or validation accuracy, penalty, replaced shards, ranks, threads.
    """
    settings = settings_that_matter(config, ("run", "data", *TRAINING_SECTIONS))
    earlier = comm.broadcast(agree_on_root(comm, lambda: _earlier_result(config, run, settings)))
    if earlier is not None:
        log.info("the readout is solved already")
        return dict(earlier)
    report_settings_without_effect(config, shards.class_counts("train"))
    agree(comm, lambda: check_answers(config, shards, reservoir.width))
    solver = solver_of(config)
    made_with = json.dumps({"settings": settings, "shards": shards.digest}, sort_keys=True)
    file = LayerFile(run.train / "layers.pt", made_with)
    rows = math.ceil((shards.rows("train") + shards.rows("validation")) / comm.size)
    passes = solver.passes(config) * config.readout.members
    room = room_for_states(config, comm, reservoir.device) if passes > 1 else 0
    is_stored = passes > 1 and STATE_BYTES * rows * reservoir.width <= room
    total = rows if is_stored else rows * passes
    before_block = partial(signals.raise_if_stopped, "solving the readout")
    with Progress("states and sums", total, enabled=comm.is_root and config.run.progress) as progress:
        source = streamed_source(config, comm, shards, reservoir, plan, progress)
        if config.prediction.calibration != "none":
            source = replace(source, natural=natural_counts(shards))
        if is_stored:
            source = stored(source)
        if config.readout.keep_sums:
            solution, kept = solve_keeping_sums(config, comm, shards, reservoir, progress)
        elif config.readout.members > 1:
            kept = None
            drawn = drawn_rows(config, comm, shards, plan, source)
            members = Members(config, source, reservoir.feature_shape, config.run.seed, drawn, before_block)
            solution = solve_members(comm, members)
        else:
            kept = None
            solution = solver.solve(
                config, comm, source, reservoir.feature_shape, config.run.seed, before_block=before_block, file=file
            )
    log.info(
        "readout solved by %s: %s", solver.method, outcome(solution.judged_by, solution.accuracy, solution.penalties)
    )
    rule = answer_rule(config, comm, shards, solution.held_out)
    result = {
        "epochs": 0,
        "validation_accuracy": solution.accuracy,
        "selected_by": solution.selected_by,
        **_penalties(solution.penalties),
        "ended": "the readout is solved",
        "replaced": list(replaced_files(shards)),
        "ranks": comm.size,
        "threads": threads,
    }

    def write() -> None:
        if kept is not None:
            write_sums(kept, run.model)
        ModelFile.write(run.model, config, shards, solution.weights, learned_of(reservoir), rule=rule)
        record_solution(config, run, result)
        file.remove()

    agree_on_root(comm, write)
    return result


def record_solution(config: Config, run: RunDirectory, result: dict[str, Any]) -> None:
    """Write the result of a solution with its settings, by which a later start finds that it is done."""
    settings = settings_that_matter(config, ("run", "data", *TRAINING_SECTIONS))
    write_sealed(_result_path(config, run), {"settings": settings, "result": result})


def _penalties(penalties: tuple[float, ...]) -> dict[str, Any]:
    """Return the penalty for the result of the stage, or the list of those of several machines."""
    return {"penalty": penalties[0]} if len(penalties) == 1 else {"penalties": list(penalties)}


def _result_path(config: Config, run: RunDirectory) -> Path:
    return run.train / f"{config.readout.kind}.json"


def refuse_other_readout(run: RunDirectory, settings: dict[str, Any]) -> None:
    """Raise an `InputError` if the run directory has the solution of another readout.

    Its model would be replaced, and taken for that of the present settings if they are set back.

    Parameters
    ----------
    run : RunDirectory
    settings : dict
        The settings that decide the weights.
    """
    for path in (run.train / f"{kind}.json" for kind in READOUTS.names):
        if path.exists():
            content = read_sealed(path, SOLVE_AGAIN)
            refuse_other_settings(str(path), content["settings"], json.loads(json.dumps(settings)), "training")


def _earlier_result(config: Config, run: RunDirectory, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Return the result of an earlier solution with the same settings, if any; raise an error if settings differ."""
    refuse_other_readout(run, settings)
    trained = read_checkpoint(run.train)
    if trained is not None:
        refuse_other_settings(
            str(run.train / "last.pt"), trained.settings, json.loads(json.dumps(settings)), "training"
        )
    path = _result_path(config, run)
    if not path.exists() or not os.path.lexists(run.model):
        return None
    try:
        ModelFile.read(run.model)
    except DataDamagedError as error:
        log.warning("%s The readout is solved again.", error)
        return None
    return dict(read_sealed(path, SOLVE_AGAIN)["result"])

"""``rcdp compress``: a new run directory with a smaller model of an earlier run."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcdp_hpc.config import Config, load_config, with_settings
from rcdp_hpc.config.paths import absolute_path, with_absolute_paths
from rcdp_hpc.deploy.compress.task import ClosedForm, ClosedFormStep, CompressOptions, CompressTask
from rcdp_hpc.errors import InputError, RcdpError
from rcdp_hpc.pipeline.linked_shards import link_shards
from rcdp_hpc.pipeline.requirements import require_torch_for
from rcdp_hpc.pipeline.stages import StageOptions, held, run_with_options
from rcdp_hpc.pipeline.state import begin, finish, machines_of_ranks, record_failure
from rcdp_hpc.runtime.code_consent import code_named_by
from rcdp_hpc.runtime.comm.collective import agree, agree_on_root, run_on_root
from rcdp_hpc.runtime.comm.connect import communicator_of
from rcdp_hpc.runtime.files import os_errors_explained, write_atomic
from rcdp_hpc.runtime.rundir import RunDirectory

if TYPE_CHECKING:
    from rcdp_hpc.deploy.compress.result import CompressResult

log = logging.getLogger(__name__)

# The new run starts from the winner of the search, from the trained weights instead of a ridge readout, and without
# what an earlier compression did.
_NEW_RUN: Mapping[str, Any] = {
    "search.generations": 0,
    "search.method": "optimizer",
    "training.baseline": False,
    "readout.warm_start": False,
    "training.initial": "",
    "pruning.keep": 1.0,
    "pruning.method": "magnitude",
    "training.weight_bits": 32,
}


def compress(
    run: str | Path,
    to: str | Path,
    comm: Any = None,
    *,
    keep: float = 1.0,
    unit: str = "weights",
    bits: int = 32,
    distil: bool = False,
    changes: Mapping[str, Any] | None = None,
    allow_code: bool = False,
    progress: bool = False,
) -> CompressResult:
    """Make a smaller model of a trained one, in a new run directory. Collective.

    A readout that is solved is reduced in closed form; everything that gradient steps train is trained again in the new
    run, from the weights of the old one. The same call continues an interrupted compression.

    Parameters
    ----------
    run : str or Path
        The run directory of the trained model. Nothing in it changes.
    to : str or Path
        The new run directory. Its shards are a link to those of `run`.
    comm : Communicator or mpi4py.MPI.Intracomm, optional
        All ranks of the job. Default: this process alone.
    keep : float
        Share of the weights, units, nodes or features that are left.
    unit : {"weights", "units", "nodes", "features"}
        What is removed.
    bits : {32, 8}
        Bits of a stored weight.
    distil : bool
        Train a model on the outputs of the old one. Its settings are those of `run` with `changes`.
    changes : mapping, optional
        Settings of the new run by dotted key, for example ``{"training.epochs": 20}``.
    allow_code : bool
        Import classes that a model file names and the configuration does not.
    progress : bool
        Show progress on rank 0.

    Returns
    -------
    CompressResult
        Sizes and scores of both models.

    Raises
    ------
    InputError
        If there is nothing to do, or the model cannot be reduced this way.
    DataDamagedError
        If a file of the run is damaged.
    StoppedError
        If a signal stopped a training. The same call continues it.
    """
    with communicator_of(comm) as ranks:
        options = agree(ranks, lambda: CompressOptions(keep, unit, bits, distil))
        require_torch_for(["train"], ranks)
        source, target = RunDirectory(absolute_path(run)), RunDirectory(absolute_path(to))
        stage_options = StageOptions(allow_code=allow_code, progress=progress)
        agree_on_root(ranks, lambda: _check(source, target))
        settings = run_on_root(ranks, lambda: _config_of(source, target, options, changes or {}))

        def train(config: Config, restart: bool = False) -> None:
            stage = StageOptions(restart, allow_code, progress=progress)
            run_with_options(("train",), config, target.path, ranks, stage)

        task = CompressTask(source, target, settings, ranks, options, train)
        if bits == 8:
            _make_rounded_model(task)
        else:
            _make_model(task)
        final = run_on_root(ranks, target.config)
        run_with_options(("evaluate",), final, target.path, ranks, stage_options)
        return run_on_root(ranks, lambda: _result(source, target, final, allow_code))


def _check(source: RunDirectory, target: RunDirectory) -> None:
    """Raise an `InputError` if there is no model, or no other folder for the new one."""
    source.refuse_comparison()
    if not source.model.exists():
        raise InputError(f"{source.model}: there is no trained model yet. Train one first (`rcdp train --out ...`).")
    if target.path.resolve() == source.path.resolve():
        raise InputError(f"{target.path}: the run itself; choose another folder for the smaller model")
    if source.state("train").get("status") != "done":
        log.warning("%s: the training has not finished; its best model so far is compressed", source.path)


def _config_of(
    source: RunDirectory, target: RunDirectory, options: CompressOptions, changes: Mapping[str, Any]
) -> Config:
    """Return the settings of the new run, which gets a link to the shards."""
    # Of a run with a search, this file has the values of the winner.
    config = load_config(str(source.trained_config)) if source.trained_config.exists() else source.config()
    new = with_absolute_paths(with_settings(config, {**_NEW_RUN, **changes}, f"of {target.path}"))
    if options == CompressOptions() and not new.pruning.active:
        raise InputError("nothing to do: choose what to reduce, for example keep = 0.1 or bits = 8")
    if not source.state_file("prepare").exists():
        raise InputError(f"{source.path}: has no record of the preparation. Prepare it again (`rcdp prepare`).")
    link_shards(source, target, str(source.path))
    return new


def _make_model(task: CompressTask) -> None:
    """Write the model of the new run, by a training or in closed form. Collective."""
    options, trained = task.options, task.config.readout.trained
    if options.distil:
        from rcdp_hpc.deploy.compress.distil import distil_changes

        _train(task, lambda: distil_changes(task))
    elif options.keep < 1 and not trained:
        from rcdp_hpc.deploy.compress.ridge import prune_ridge

        _in_closed_form(task, prune_ridge)
    elif options.keep < 1 or task.config.pruning.active:
        from rcdp_hpc.deploy.compress.prune import pruning_changes

        _train(task, lambda: pruning_changes(task))
    else:
        _in_closed_form(task, _copy_model)


def _make_rounded_model(task: CompressTask) -> None:
    """Write the model of the new run with weights of 8 bits, by rounding or by a training that follows. Collective."""
    from rcdp_hpc.deploy.compress.quantize import fine_tuning, round_model, starts_over

    config = run_on_root(task.comm, lambda: fine_tuning(task))
    if config is None:
        _make_model(task)
        with held(task.target, task.comm):
            config = round_model(task)
    if config is not None:
        task.train(config, restart=run_on_root(task.comm, lambda: starts_over(task)))


def _train(task: CompressTask, changes: Any) -> None:
    """Run the training of the new run with the settings that `changes` returns on rank 0."""
    config = run_on_root(task.comm, lambda: with_settings(task.config, changes(), f"of {task.target.path}"))
    task.train(config)


def _in_closed_form(task: CompressTask, step: ClosedFormStep) -> None:
    """Compute the model of the new run without a training, and record it as the result of the stage "train"."""
    comm, target = task.comm, task.target
    with held(target, comm):
        machines = machines_of_ranks("train", comm)
        agree_on_root(comm, lambda: begin(target, "train", task.config, comm.size, True, machines))
        try:
            made = step(task)
        except RcdpError as error:
            record_failure(target, comm, "train", "failed", refused=True, reason=str(error))
            raise
        agree_on_root(comm, lambda: finish(target, "train", made.config, made.result))


def _copy_model(task: CompressTask) -> ClosedForm:
    """Copy the model as it is. Collective."""

    def copy() -> dict[str, Any]:
        with os_errors_explained(task.source.model), task.source.model.open("rb") as model:
            task.target.train.mkdir(parents=True, exist_ok=True)
            write_atomic(task.target.model, lambda file: shutil.copyfileobj(model, file))
        result: dict[str, Any] = task.source.state("train").get("result") or {}
        return result

    return ClosedForm(task.config, run_on_root(task.comm, copy))


def _result(source: RunDirectory, target: RunDirectory, config: Config, allow_code: bool) -> CompressResult:
    from rcdp_hpc.deploy.compress.result import CompressResult, Measured

    own_code = code_named_by(config).values()
    before, after = (Measured.of(run, allow_code, own_code) for run in (source, target))
    return CompressResult(target.path, before, after)

"""Removal of features and nodes from a ridge readout, in closed form.

The features, or all features of a node, that cost least are removed one after the other, from the sums of the training
rows (`rcdp_hpc.reservoir.elimination`). Validation rows give the accuracy at every size, and select the penalty of the
smaller readout, which is then solved from the training and the validation rows, as the readout of the run was.

Without some of its features a readout still reads the same reservoir. Without some of its nodes, the states of the
others change: the readout of the smaller reservoir is solved from its own states.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config, with_settings
from rcdp_hpc.config.choices import readout_choice
from rcdp_hpc.deploy.compress.nodes import node_groups, refuse_fixed_nodes, smaller_reservoir
from rcdp_hpc.deploy.compress.sizes import CURVE_FILE, CurveRecord, groups_left
from rcdp_hpc.deploy.compress.task import ClosedForm, CompressTask
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.networks.learned_source import learned_of
from rcdp_hpc.networks.readouts.ridge import RidgeNetwork
from rcdp_hpc.reservoir.device_sums import make_sums, sums_bytes
from rcdp_hpc.reservoir.elimination import sums_of_features
from rcdp_hpc.reservoir.gram import GramSums, reduce_sums
from rcdp_hpc.reservoir.ridge import RidgeReadout, solve
from rcdp_hpc.reservoir.stream import largest_sum, sum_slabs
from rcdp_hpc.runtime.comm.collective import agree, agree_on_root, run_on_root
from rcdp_hpc.runtime.digests import read_sealed
from rcdp_hpc.runtime.files import os_errors_explained, write_atomic
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.stage_context import StageContext
from rcdp_hpc.training.calibration import plain_rule
from rcdp_hpc.training.solve.kept_solve import deciding_settings, tensors_digest
from rcdp_hpc.training.solve.kept_sums import KeptSums, sums_path
from rcdp_hpc.training.solve.penalty_choice import penalty_criterion
from rcdp_hpc.training.solve.ridge_fit import Blocks, row_class_weights, smoothed
from rcdp_hpc.training.solve.ridge_rows import streamed_source
from rcdp_hpc.training.solve.size_curve import SizeCurve, select_penalty, size_curve, validation_rows
from rcdp_hpc.training.solve.solve_stage import record_solution
from rcdp_hpc.training.solve.solving_device import device_with_room
from rcdp_hpc.training.stage import SolvedRows, rows_to_solve, train

log = logging.getLogger(__name__)


def prune_ridge(task: CompressTask) -> ClosedForm:
    """Write the model with fewer features or nodes. Collective.

    Parameters
    ----------
    task : CompressTask
        ``options.keep`` is the share of features or nodes that are left. With ``options.unit = "weights"`` features are
        removed, all weights of a feature at once.

    Returns
    -------
    ClosedForm

    Raises
    ------
    InputError
        If the readout cannot be reduced this way.
    CandidateError
        If a ridge regression has no solution.
    """
    agree(task.comm, lambda: _refuse(task))
    if task.options.unit == "nodes":
        return _without_nodes(task)
    return _without_features(task)


def _refuse(task: CompressTask) -> None:
    """Raise an `InputError` if this readout or reservoir has nothing that can be removed this way."""
    kind = task.config.readout.kind
    if not readout_choice(kind).linear:
        raise InputError(
            f"readout.kind = {kind!r}: only the features of a ridge readout are removed in closed form; solve one with "
            "--set readout.kind=ridge, or make this one smaller by its own settings"
        )
    if task.config.readout.members > 1:
        raise InputError(
            f"readout.members = {task.config.readout.members}: features are removed from a single ridge readout; solve "
            "one with --set readout.members=1 --set readout.member_rows=all"
        )
    if task.options.unit == "units":
        raise InputError("unit = 'units': a ridge readout has no hidden units; choose 'features' or 'nodes'")
    if task.options.unit == "nodes":
        refuse_fixed_nodes(task.config)
    _refuse_other_size(task)


def _refuse_other_size(task: CompressTask) -> None:
    """Raise an `InputError` if the new run has a model of another size, whose files would be overwritten in part."""
    path = task.target.train / CURVE_FILE
    if not path.exists():
        return
    before = read_sealed(path, f"Remove {task.target.path}, which is written again.")
    unit = "nodes" if task.options.unit == "nodes" else "features"
    if (before["unit"], before["chosen"]) != (unit, groups_left(task.options.keep, before["groups"])):
        raise InputError(
            f"{task.target.path}: has a model with {before['chosen']} of {before['groups']} {before['unit']} already: "
            "choose another folder (--to)"
        )


def _without_features(task: CompressTask) -> ClosedForm:
    config, comm, target = _with_own_matrices(task), task.comm, task.target
    with rows_to_solve(config, comm, target, _learned(task, config)) as rows:
        elimination = _Elimination(task, config, rows)
        curve = elimination.curve(None)
        record = elimination.record(curve, "features", task.options.keep)
        features = curve.features(record.chosen)
        chosen = select_penalty(
            comm, elimination.sums, elimination.validation, features, config.readout.ridge_penalties,
            elimination.criterion,
        )  # fmt: skip
        elimination.add_validation()
        readout = _of_all(elimination.sums, chosen.penalty, features)
        fitted = smoothed(readout, config.loss.label_smoothing)
        log.info(
            "%d of %d features left, penalty %g: accuracy on validation %.2f %% (%.2f %% with all features)",
            *(len(features), elimination.sums.x.size, chosen.penalty),
            *(100 * chosen.accuracy, 100 * curve.accuracy(len(curve.groups))),
        )
        result: dict[str, Any] = {
            "epochs": 0,
            "validation_accuracy": chosen.accuracy,
            "selected_by": "validation",
            "penalty": chosen.penalty,
            "ended": f"{len(features)} of {elimination.sums.x.size} features are left",
            "replaced": [],
            "ranks": comm.size,
            "threads": rows.threads,
        }

        def write() -> None:
            record.write(target.train)
            weights = RidgeNetwork.weights_of(fitted)
            if config.prediction.calibration != "none":
                log.info("probabilities of the smaller model are not calibrated")
            rule = plain_rule(config, rows.shards)
            ModelFile.write(target.model, config, rows.shards, weights, learned_of(rows.reservoir), rule=rule)
            record_solution(config, target, result)

        agree_on_root(comm, write)
    return ClosedForm(config, result)


def _without_nodes(task: CompressTask) -> ClosedForm:
    config, comm, target = _with_own_matrices(task), task.comm, task.target
    with rows_to_solve(config, comm, target, _learned(task, config)) as rows:
        elimination = _Elimination(task, config, rows)
        groups = node_groups(rows.reservoir.feature_shape)
        curve = elimination.curve(groups)
        record = elimination.record(curve, "nodes", task.options.keep)
        shape, kept = rows.shards.sample_shape, curve.left(record.chosen)
        agree_on_root(comm, lambda: record.write(target.train))
    log.info(
        "accuracy on validation with the features of %d of %d nodes: %.2f %%; the readout of their states without the "
        "other nodes is solved now",
        *(record.chosen, len(groups), 100 * curve.accuracy(record.chosen)),
    )

    def smaller() -> Config:
        changes = smaller_reservoir(config, shape, kept, target.matrices)
        return with_settings(config, changes, f"of {target.path}")

    new = run_on_root(comm, smaller)
    return ClosedForm(new, train(StageContext(new, comm, target)))


class _Elimination:
    """The sums and validation rows of a run, and the elimination from them."""

    def __init__(self, task: CompressTask, config: Config, rows: SolvedRows) -> None:
        self.config = config
        self.comm = comm = task.comm
        self._bound: float | None = None
        self.kept = agree(comm, lambda: _kept_sums(task, config, rows))
        splits = ("validation",) if self.kept else ("train", "validation", "validation")
        total = math.ceil(sum(rows.shards.rows(split) for split in splits) / comm.size)
        with Progress("states and sums", total, enabled=comm.is_root and config.run.progress) as progress:
            source = streamed_source(config, comm, rows.shards, rows.reservoir, rows.plan, progress)
            # The validation rows are stored, in float32.
            needed = sums_bytes(source.width, source.classes) + 4 * source.validation_rows * source.width
            device = device_with_room(comm, source.device, needed, f"ridge over {source.width} features")
            self.source = source = replace(source, device=device)
            self.weights = row_class_weights(config, source.class_counts)
            self.criterion = agree(comm, lambda: penalty_criterion(config, source.criterion_classes))
            self.sums = self.kept.total if self.kept else self._summed()
            self.validation = agree(comm, lambda: validation_rows(self.sums, source.validation(), self.weights, device))

    def _summed(self) -> GramSums:
        """Return the sums of the training rows of all ranks, of the same bits for any number of ranks if bounded."""
        log.info("the sums of %d training rows are computed: one pass over their states", self.source.rows)
        source = self.source
        bound = largest_sum(source.bound, source.rows + source.validation_rows)
        if bound is not None and self.weights is not None:
            bound *= max(1.0, float(self.weights.max()))
        self._bound = bound
        return self._sums_of(self.source.partitions())

    def _sums_of(self, partitions: Iterable[Blocks]) -> GramSums:
        """Return the sums over the rows of all ranks in main memory, where features are eliminated. Collective."""
        source = self.source
        sums = agree(
            self.comm, lambda: make_sums(source.width, source.classes, largest=self._bound, device=source.device)
        )
        agree(self.comm, lambda: sum_slabs(sums, partitions, self.weights))
        return reduce_sums(sums, self.comm).on_host()

    def curve(self, groups: NDArray[np.int64] | None) -> SizeCurve:
        """Return the accuracy at every size. Collective."""
        self.penalty = select_penalty(
            self.comm, self.sums, self.validation, np.arange(self.sums.x.size), self.config.readout.ridge_penalties,
            self.criterion,
        ).penalty  # fmt: skip
        started = time.perf_counter()
        curve = size_curve(self.comm, self.sums, self.penalty, self.validation, groups)
        log.info("%d removals in %.1f s, penalty %g", len(curve.order), time.perf_counter() - started, self.penalty)
        return curve

    def record(self, curve: SizeCurve, unit: str, keep: float) -> CurveRecord:
        """Return the curve with the size that `keep` asks for, and log a few of its sizes."""
        chosen = groups_left(keep, len(curve.groups))
        record = CurveRecord(curve, unit, self.source.classes, self.penalty, chosen)
        for line in record.lines():
            log.info("%s", line)
        return record

    def add_validation(self) -> None:
        """Add the validation rows to the sums. Collective."""
        self.sums.merge(self.kept.validation if self.kept else self._sums_of(self.source.validation()))


def _kept_sums(task: CompressTask, config: Config, rows: SolvedRows) -> KeptSums | None:
    """Return the sums that the run kept; None if it kept none, or other settings decide the features now.

    Raises
    ------
    InputError
        If the run has forgotten rows, which only its sums leave out, and these do not fit the settings.
    DataDamagedError
        If the file is damaged.
    """
    path = sums_path(task.source.model)
    if path.exists():
        kept = KeptSums.read(path)
        same = kept.facts.settings == json.loads(json.dumps(deciding_settings(config)))
        if same and kept.facts.learned == tensors_digest(learned_of(rows.reservoir)):
            log.info("the sums in %s are used: no training row is read", path)
            return kept
    if config.readout.without_units:
        raise InputError(
            f"readout.without_units: {path.parent} has no sums that leave out these rows with these settings. Reduce "
            "the model with its own settings, or train it again"
        )
    return None


def _of_all(sums: GramSums, penalty: float, features: NDArray[np.int64]) -> RidgeReadout:
    """Return the readout of some features with zeros for the others."""
    part = solve(sums_of_features(sums, features), penalty)
    weights = np.zeros((sums.x.size, sums.y.size))
    weights[features] = part.weights
    return RidgeReadout(weights, part.intercept)


def _with_own_matrices(task: CompressTask) -> Config:
    """Return the settings with the new run's own copy of the matrices that the user provided, if any."""
    source = task.config.reservoir.matrices
    if not source:
        return task.config

    def copy() -> None:
        with os_errors_explained(task.source.matrices), task.source.matrices.open("rb") as matrices:
            write_atomic(task.target.matrices, lambda file: shutil.copyfileobj(matrices, file))

    agree_on_root(task.comm, copy)
    changes = {"reservoir.matrices": str(task.target.matrices)}
    return run_on_root(task.comm, lambda: with_settings(task.config, changes, f"of {task.target.path}"))


def _learned(task: CompressTask, config: Config) -> dict[str, torch.Tensor] | None:
    """Return what the extractor of the run has learned; None if the new one differs, and has to learn it."""
    file = agree(task.comm, lambda: ModelFile.read(task.source.model))
    return dict(file.learned) if file.config.extractor == config.extractor else None

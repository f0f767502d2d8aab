"""``rcdp plan``: estimates of time, memory and disk space of each stage, and options of sbatch that fit them.

On a machine with Slurm, no line requests more than the nodes have (`rcdp_hpc.cluster.sizes`). Times come from a
finished run of the configuration. Without one, a calibration runs the stages on one process, in a temporary folder, on
fewer samples, candidates and epochs. Times are scaled by the amount of work and divided by the number of ranks, which
assumes that ranks do not slow each other down.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.cluster.estimates import Measured, Work, job_stages, measure, stages_of
from rcdp_hpc.cluster.partitions import read_partitions
from rcdp_hpc.cluster.sizes import fit_job, site_lines
from rcdp_hpc.config import Config, largest_candidate, parse_config, searches_sizes, to_tree, with_kind_defaults
from rcdp_hpc.data.shards.index import facts_in, load_index
from rcdp_hpc.pipeline.run_extractor import with_model_settings
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.ram import MIB
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.text import join_lines

CALIBRATION_ROWS = 5000
CALIBRATED = {"candidates": 2, "epochs": 2}


def format_plan(config: Config, run: RunDirectory | None = None, site: Path | None = None) -> str:
    """Return the plan of a configuration as a text.

    Parameters
    ----------
    config : Config
    run : RunDirectory, optional
        An earlier run. Without one, or if its stages are not done, a calibration is run.
    site : Path, optional
        The site file, which may name partitions.

    Raises
    ------
    RcdpError
        If the calibration fails. The job would fail, too.
    """
    if run is not None and (run.shards / "index.json").exists():
        config = with_kind_defaults(config, facts_in(load_index(run.shards)))
    config = with_model_settings(config, run)
    if run is not None and all(run.state(stage).get("status") == "done" for stage in stages_of(config)):
        measured = measure(run, f"the run in {run.path}")
        index = load_index(run.shards)
        rows = index["splits"]["train"]["rows"]
    else:
        with tempfile.TemporaryDirectory(prefix="rcdp-plan-") as folder:
            measured, index, rows = _calibrate(config, RunDirectory(Path(folder) / "run"))
        config = with_kind_defaults(config, facts_in(index))
    work = Work(config, measured, tuple(index["sample_shape"]), rows, len(index["classes"]))
    partitions = read_partitions()
    jobs = [fit_job(work, stage, partitions, site) for stage in job_stages(config)]
    plans = [plan for job in jobs[:-1] for plan in work.plans(job.plan.stage, job.plan.resources)]
    lines = [f"measured: {measured.where}", f"{rows} training rows", ""]
    for plan in plans:
        asked = f"ranks {plan.resources.ranks:>3}  cores of each {plan.resources.cores:>2}"
        memory = f"memory of each {_size(plan.memory):>9}"
        line = f"{plan.stage:<8} about {_duration(plan.seconds):>8}  {asked}  {memory}  leaves {_size(plan.left):>9}"
        lines.append(f"{line}  $TMPDIR of each {_size(plan.disk)}" if plan.disk else line)
    return join_lines([*lines, "", *site_lines(jobs)])


def _calibrate(config: Config, run: RunDirectory) -> tuple[Measured, dict[str, Any], int]:
    """Run the stages on a part of the work; return measurements, the index, and the training rows of the whole work."""
    from rcdp_hpc.data.like import open_like
    from rcdp_hpc.pipeline.stages import run_stages

    source, _ = open_like(config.data)
    config = with_kind_defaults(config, source.facts)
    counts = np.bincount(source.train.y, minlength=len(source.classes))
    share = min(1.0, CALIBRATION_ROWS / len(source.train))
    small = _smaller(config, counts, share)
    stages = stages_of(small)
    if searches_sizes(small):
        # The winner of a few candidates says little about the size of the winner of the search.
        largest = _without_search(largest_candidate(small))
        run_stages(stages_of(largest), largest, run.path, SingleProcess())
        stages = ["search"]
    run_stages(stages, small, run.path, SingleProcess())
    index = load_index(run.shards)
    rows = round(index["splits"]["train"]["rows"] / share)
    measured = measure(run, f"a calibration on {share:.0%} of the samples, {CALIBRATED['candidates']} candidates and "
                       f"{CALIBRATED['epochs']} epochs, one process")  # fmt: skip
    fitted, whole = (min(config.search.train_rows, count) for count in (measured.train_rows, rows))
    scaled = replace(
        measured,
        prepare_seconds=measured.prepare_seconds / share,
        candidate_seconds=measured.candidate_seconds * whole / fitted,
    )
    return scaled, index, rows


def _smaller(config: Config, counts: NDArray[np.int64], share: float) -> Config:
    """Return the configuration of the calibration, in which each class keeps enough samples for SMOTE neighbours."""
    tree = to_tree(config)
    if share < 1 and config.data.class_keep_counts:
        enough = 4 * config.data.smote_neighbours
        numbers = [min(count, max(math.ceil(count * share), enough)) for count in config.data.class_keep_counts]
        tree["data"]["class_keep_counts"] = numbers
    elif share < 1:
        kept = np.array(config.data.class_keep_fractions or [1.0] * len(counts))
        enough = np.minimum(kept, 4 * config.data.smote_neighbours / np.maximum(counts, 1))
        tree["data"]["class_keep_fractions"] = np.maximum(kept * share, enough).tolist()
    if share < 1:
        tree["data"]["balance_counts"] = [math.ceil(count * share) for count in config.data.balance_counts]
    tree["search"].update(population=CALIBRATED["candidates"], generations=min(1, config.search.generations))
    tree["training"].update(epochs=CALIBRATED["epochs"])
    tree["run"]["progress"] = False
    return parse_config(tree, where="of the calibration")


def _without_search(config: Config) -> Config:
    return config.model_copy(update={"search": config.search.model_copy(update={"generations": 0})})


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(count: float) -> str:
    return f"{count / MIB:.1f} MiB" if count < 1024 * MIB else f"{count / MIB / 1024:.1f} GiB"

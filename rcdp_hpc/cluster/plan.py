"""What each stage will take, before anything is queued, and the lines for sbatch that follow from it.

Times come from an earlier run of the same configuration where its stages are done, and otherwise from a calibration:
the stages themselves, on one process, in a temporary folder, on fewer samples, candidates and epochs. They are scaled
by the work, and divided by the ranks as if the ranks did not disturb one another.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.cluster.scripts import Resources, resources
from rcdp_hpc.config import STAGES, Config, parse_config, to_tree, with_kind_defaults
from rcdp_hpc.data.index import load_index
from rcdp_hpc.runtime.comm import SingleProcess
from rcdp_hpc.runtime.files import read_lines_if_any
from rcdp_hpc.runtime.memory import MIB
from rcdp_hpc.runtime.rundir import RunDirectory

# What a process holds before it has any data: Python, torch, MPI, Horovod.
PROCESS_BYTES = 700 * MIB
# Limits are set above the estimate: a job that runs out of time or memory costs more than one that asks for too much.
MARGIN = 2.0
CALIBRATION_ROWS = 5000
CALIBRATED = {"candidates": 2, "epochs": 2}


@dataclass(frozen=True)
class StagePlan:
    """What a stage will take.

    Attributes
    ----------
    stage : {"prepare", "search", "train", "evaluate", "all"}
    seconds : float
        On the ranks of `resources`; preparation and evaluation as they were measured.
    memory : int
        Bytes of each rank.
    resources : Resources
    disk : int
        Bytes that each rank takes in its ``$TMPDIR``.
    left : int
        Bytes that it leaves in the run directory.
    """

    stage: str
    seconds: float
    memory: int
    resources: Resources
    disk: int = 0
    left: int = 0

    def option_line(self) -> str:
        """Return this stage's line for the site file."""
        minutes = max(5, math.ceil(MARGIN * self.seconds / 60) + 5)
        memory = math.ceil(MARGIN * self.memory / self.resources.cores / (100 * MIB)) * 100
        ranks = f"--ntasks={self.resources.ranks} --cpus-per-task={self.resources.cores}"
        return f"{self.stage.upper()}_JOB=({ranks} --mem-per-cpu={memory}M --time={minutes})"


@dataclass(frozen=True)
class Measured:
    """A run that estimates are made from.

    Attributes
    ----------
    prepare_seconds : float
        For all samples.
    candidate_seconds : float
        One candidate on one rank.
    row_seconds : float
        One training row in one epoch, on one rank.
    once_seconds : float
        One training row before the first epoch, on one rank: its states, and the ridge readout to compare with.
    train_rows : int
        Rows trained on in the run.
    evaluate_seconds : float
        For the whole test split.
    left : dict
        Bytes that each stage left in the run directory.
    where : str
        What was measured, for people.
    """

    prepare_seconds: float
    candidate_seconds: float
    row_seconds: float
    once_seconds: float
    train_rows: int
    evaluate_seconds: float
    left: dict[str, int]
    where: str


def plan_text(config: Config, run: RunDirectory | None = None) -> str:
    """Return the plan of a configuration in words.

    Parameters
    ----------
    config : Config
    run : RunDirectory, optional
        An earlier run; without one, or where its stages are not done, a calibration is run.

    Raises
    ------
    RcdpError
        If the calibration fails, which the job would, too.
    """
    if run is not None and all(run.state(stage).get("status") == "done" for stage in _stages(config)):
        measured = measure(run, f"the run in {run.path}")
        index = load_index(run.shards)
        rows = index["splits"]["train"]["rows"]
    else:
        with tempfile.TemporaryDirectory(prefix="rcdp-plan-") as folder:
            measured, index, rows = _calibrate(config, RunDirectory(Path(folder) / "run"))
    plans = stage_plans(config, measured, index["sample_shape"], rows, len(index["classes"]))
    lines = [f"measured: {measured.where}", f"{rows} training rows", ""]
    for plan in plans:
        asked = f"ranks {plan.resources.ranks:>3}  cores of each {plan.resources.cores:>2}"
        memory = f"memory of each {_size(plan.memory):>9}"
        line = f"{plan.stage:<8} about {_duration(plan.seconds):>8}  {asked}  {memory}  leaves {_size(plan.left):>9}"
        lines.append(f"{line}  $TMPDIR of each {_size(plan.disk)}" if plan.disk else line)
    jobs = [plan.option_line() for plan in job_plans(config, plans)]
    lines += ["", "for your site file (twice what was estimated):", *(f"  {line}" for line in jobs)]
    return "\n".join(lines)


def job_plans(config: Config, plans: list[StagePlan]) -> list[StagePlan]:
    """Return what the jobs take: that of the training evaluates, too, and the last does all."""
    *others, train, evaluate = plans
    asked = resources("all", config)
    # The preparation is of one process there, too; the others' work is dealt anew.
    spread = {plan.stage: plan.resources.ranks / asked.ranks for plan in plans if plan.stage in ("search", "train")}
    seconds = sum(plan.seconds * spread.get(plan.stage, 1) for plan in plans)
    together = StagePlan("all", seconds, max(plan.memory for plan in plans), asked)
    return [*others, replace(train, seconds=train.seconds + evaluate.seconds), together]


def stage_plans(config: Config, measured: Measured, shape: list[int], rows: int, classes: int) -> list[StagePlan]:
    """Return what each stage takes, from what was measured.

    Parameters
    ----------
    config : Config
    measured : Measured
    shape : list of int
        Of a sample.
    rows, classes : int
        Training rows of the configuration, and its classes.
    """
    asked, left = resources("prepare", config), measured.left
    shards = round(left["prepare"] * rows / measured.train_rows)
    plans = [StagePlan("prepare", measured.prepare_seconds, _prepare_bytes(config), asked, left=shards)]
    search, training = config.search, config.training
    if config.has_search:
        asked = resources("search", config)
        rounds = search.generations * math.ceil(search.population / asked.ranks)
        seconds, memory = rounds * measured.candidate_seconds, _search_bytes(config, shape, classes)
        plans.append(StagePlan("search", seconds, memory, asked, left=left["search"]))
    asked = resources("train", config)
    seconds = (measured.once_seconds + measured.row_seconds * training.epochs) * rows / asked.ranks
    # At most: balancing adds training rows, and no validation rows.
    with_validation = rows / (1 - config.data.validation_fraction)
    memory, disk = _kept_bytes(config, shape, math.ceil(with_validation / asked.ranks))
    memory = PROCESS_BYTES + 2 * memory
    plans.append(StagePlan("train", seconds, memory, asked, disk, left["train"]))
    plans.append(StagePlan("evaluate", measured.evaluate_seconds, memory, asked, left=left["evaluate"]))
    return plans


def measure(run: RunDirectory, where: str) -> Measured:
    """Return what a finished run took; a stage left out took nothing."""
    index = load_index(run.shards)
    rows = index["splits"]["train"]["rows"]
    timings = [line["timing"]["seconds"] for line in read_lines_if_any(run.search / "history.jsonl")]
    epochs = read_lines_if_any(run.train / "metrics.jsonl")
    train = run.state("train")
    in_epochs = sum(line["seconds"] for line in epochs)
    per_row = in_epochs / max(1, len(epochs)) * train["ranks"] / rows
    once = max(0.0, train["seconds"] - in_epochs) * train["ranks"] / rows
    left = {
        stage: sum(path.stat().st_size for path in run.folder(stage).resolve().rglob("*") if path.is_file())
        for stage in STAGES
    }
    candidate = float(np.mean([seconds for seconds in timings if seconds])) if any(timings) else 0.0
    prepared, evaluated = (run.state(stage)["seconds"] for stage in ("prepare", "evaluate"))
    return Measured(prepared, candidate, per_row, once, rows, evaluated, left, where)


def _calibrate(config: Config, run: RunDirectory) -> tuple[Measured, dict[str, Any], int]:
    """Run the stages on a part of the work; return what it took, its index, and the training rows of the whole work."""
    from rcdp_hpc.data.sources import open_source
    from rcdp_hpc.pipeline import run_stages

    source = open_source(config.data, False)
    config = with_kind_defaults(config, source.facts)
    counts = np.bincount(source.train.y, minlength=len(source.classes))
    share = min(1.0, CALIBRATION_ROWS / len(source.train))
    small = _smaller(config, counts, share)
    run_stages(_stages(small), small, run.path, SingleProcess())
    index = load_index(run.shards)
    rows = round(index["splits"]["train"]["rows"] / share)
    found = measure(run, f"a calibration on {share:.0%} of the samples, {CALIBRATED['candidates']} candidates and "
                    f"{CALIBRATED['epochs']} epochs, one process")  # fmt: skip
    fitted, whole = (min(config.search.train_rows, count) for count in (found.train_rows, rows))
    scaled = replace(
        found,
        prepare_seconds=found.prepare_seconds / share,
        candidate_seconds=found.candidate_seconds * whole / fitted,
    )
    return scaled, index, rows


def _smaller(config: Config, counts: NDArray[np.int64], share: float) -> Config:
    """Return the configuration of a calibration; each class keeps enough samples to have neighbours."""
    tree = to_tree(config)
    if share < 1:
        kept = np.array(config.data.keep or [1.0] * len(counts))
        enough = np.minimum(kept, 4 * config.data.smote_neighbours / np.maximum(counts, 1))
        tree["data"]["keep"] = np.maximum(kept * share, enough).tolist()
        tree["data"]["balance_counts"] = [math.ceil(count * share) for count in config.data.balance_counts]
    tree["search"].update(population=CALIBRATED["candidates"], generations=min(1, config.search.generations))
    tree["training"].update(epochs=CALIBRATED["epochs"])
    tree["run"]["progress"] = False
    return parse_config(tree, where="of the calibration")


def _stages(config: Config) -> list[str]:
    return ["prepare", *(["search"] if config.has_search else []), "train", "evaluate"]


def _prepare_bytes(config: Config) -> int:
    return PROCESS_BYTES // 2 + config.data.memory_budget * MIB


def _search_bytes(config: Config, shape: list[int], classes: int) -> int:
    from rcdp_hpc.reservoir.cutting import Cut
    from rcdp_hpc.search.limits import estimated_bytes

    cut = Cut.of(config.reservoir).shape(tuple(shape))
    rows = config.search.train_rows + config.search.validation_rows
    candidates = config.search.candidates_at_once * estimated_bytes(config, cut, rows, classes)
    return PROCESS_BYTES + 4 * rows * math.prod(shape) + candidates


def _kept_bytes(config: Config, shape: list[int], rows: int) -> tuple[int, int]:
    """Return what a rank keeps of so many rows in memory and on disk, as `rcdp_hpc.training.keep` chooses."""
    training, samples = config.training, 4 * math.prod(shape) * rows
    states = samples if training.extractor.trained else 4 * _width(config, shape) * rows
    if training.cache_precision != "kernel":
        states //= 2
    # Without a limit the job is given the memory that it takes.
    if states <= training.cache_memory * MIB or not training.cache_memory:
        return states, 0
    return (0, states) if states <= training.cache_disk * MIB else (samples, 0)


def _width(config: Config, shape: list[int]) -> int:
    """Return how many values are kept of a sample."""
    from rcdp_hpc.reservoir.cutting import Cut
    from rcdp_hpc.reservoir.reductions import kept_shape
    from rcdp_hpc.training.networks.dictionary import PatchDictionary

    steps, features = Cut.of(config.reservoir).shape(tuple(shape))
    if config.training.extractor.kind == "dictionary":
        dictionary = PatchDictionary(config.training.extractor, shape)
        steps, features = dictionary.steps, dictionary.features
    if config.reservoir.kind == "none":
        return steps * features
    return kept_shape(config.reservoir, steps).features


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(count: float) -> str:
    return f"{count / MIB:.1f} MiB" if count < 1024 * MIB else f"{count / MIB / 1024:.1f} GiB"

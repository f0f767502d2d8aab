"""Estimates of time, memory and disk space of the stages of a configuration, from a measured run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rcdp_hpc.cluster.partitions import Partition
from rcdp_hpc.cluster.scripts import Resources, Stage
from rcdp_hpc.config import STAGES, Config, largest_candidate
from rcdp_hpc.data.budget import block_bytes
from rcdp_hpc.data.shards.index import load_index
from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.digests import read_sealed_lines
from rcdp_hpc.runtime.ram import MIB
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.search.state_sets import STATE_SETS

# Memory of a process without data: Python, torch, MPI, and the engine of the training.
PROCESS_BYTES = 700 * MIB
# The same without torch and engine.
PREPARE_PROCESS_BYTES = 350 * MIB
# Number of float32 copies of a sample that the preparation holds at the same time: read, balanced, sorted, written.
COPIES_IN_PREPARATION = 5
# Factor of limits over estimates: a job that runs out of time or memory costs more than one that requests too much.
MARGIN = 2.0


@dataclass(frozen=True)
class StagePlan:
    """The estimate for a stage.

    Attributes
    ----------
    stage : {"prepare", "search", "train", "evaluate", "all"}
    seconds : float
        Time on the ranks of `resources`; the measured time for preparation and evaluation.
    memory : int
        Bytes of memory per rank.
    resources : Resources
    disk : int
        Bytes per rank in ``$TMPDIR``.
    left : int
        Bytes of its results in the run directory.
    """

    stage: str
    seconds: float
    memory: int
    resources: Resources
    disk: int = 0
    left: int = 0

    @property
    def minutes(self) -> int:
        """The time limit to request, in minutes."""
        return max(5, math.ceil(MARGIN * self.seconds / 60) + 5)

    @property
    def memory_per_core(self) -> int:
        """The memory per core to request, in MiB, with a margin for everything except the process itself."""
        data = max(0, self.memory - PROCESS_BYTES)
        asked = min(self.memory, PROCESS_BYTES) + MARGIN * data
        return math.ceil(asked / self.resources.cores / (100 * MIB)) * 100

    def option_line(self, partition: Partition | None = None, extra: Sequence[str] = ()) -> str:
        """Return the line of this stage for the site file, within the limits of a partition."""
        minutes = min(self.minutes, partition.minutes or self.minutes) if partition else self.minutes
        options = [*extra, f"--ntasks={self.resources.ranks}", f"--cpus-per-task={self.resources.cores}"]
        if partition is None or partition.knows_memory:
            options.append(f"--mem-per-cpu={self.memory_per_core}M")
        return f"{self.stage.upper()}_JOB=({' '.join(options)} --time={minutes})"


@dataclass(frozen=True)
class Measured:
    """Measurements of a run.

    Attributes
    ----------
    prepare_seconds : float
        Time of the preparation of all samples.
    candidate_seconds : float
        Time per candidate on one rank.
    row_seconds : float
        Time per training row and epoch on one rank.
    once_seconds : float
        Time per training row before the first epoch on one rank, for its states and the ridge baseline.
    train_rows : int
        Number of training rows of the run.
    evaluate_seconds : float
        Time of the evaluation of the complete test split.
    left : dict of str to int
        Bytes of the results of each stage.
    where : str
        Description of the measured run.
    """

    prepare_seconds: float
    candidate_seconds: float
    row_seconds: float
    once_seconds: float
    train_rows: int
    evaluate_seconds: float
    left: dict[str, int]
    where: str


@dataclass(frozen=True)
class Work:
    """The work of a configuration, with measurements.

    Attributes
    ----------
    config : Config
    measured : Measured
    shape : tuple of int
        Shape of a sample.
    rows, classes : int
        Number of training rows, and of classes.
    """

    config: Config
    measured: Measured
    shape: tuple[int, ...]
    rows: int
    classes: int

    def job(self, stage: Stage, asked: Resources) -> StagePlan:
        """Return the estimate of a job with all of its stages on the given resources."""
        plans = self.plans(stage, asked)
        seconds, memory = sum(plan.seconds for plan in plans), max(plan.memory for plan in plans)
        return StagePlan(stage, seconds, memory, asked, max(plan.disk for plan in plans))

    def plans(self, stage: str, asked: Resources) -> list[StagePlan]:
        """Return the estimates of the stages of a job."""
        estimate = {"prepare": self._prepare, "search": self._search, "train": self._train, "evaluate": self._evaluate}
        stages = {"train": ("train", "evaluate"), "all": stages_of(self.config)}.get(stage, (stage,))
        return [estimate[name](asked) for name in stages]

    def _prepare(self, asked: Resources) -> StagePlan:
        measured = self.measured
        shards = round(measured.left["prepare"] * self.rows / measured.train_rows)
        memory = _prepare_bytes(self.config, self.shape, self.rows, asked.cores)
        return StagePlan("prepare", measured.prepare_seconds, memory, asked, left=shards)

    def _search(self, asked: Resources) -> StagePlan:
        search = self.config.search
        rounds = search.generations * math.ceil(search.population / asked.ranks)
        if search.method == "select":
            rounds += math.ceil((len(search.state_sets) or len(STATE_SETS)) / asked.ranks)
        memory = _search_bytes(largest_candidate(self.config), self.shape, self.classes)
        seconds = rounds * self.measured.candidate_seconds
        return StagePlan("search", seconds, memory, asked, left=self.measured.left["search"])

    def _train(self, asked: Resources) -> StagePlan:
        measured, left = self.measured, self.measured.left["train"]
        by_row = measured.once_seconds + measured.row_seconds * self.config.training.epochs
        memory, disk = self._training_bytes(asked.ranks)
        return StagePlan("train", by_row * self.rows / asked.ranks, memory, asked, disk, left)

    def _evaluate(self, asked: Resources) -> StagePlan:
        memory, _ = self._training_bytes(asked.ranks)
        left = self.measured.left["evaluate"]
        return StagePlan("evaluate", self.measured.evaluate_seconds, memory, asked, left=left)

    def _training_bytes(self, ranks: int) -> tuple[int, int]:
        """Return the bytes of memory and of disk that a rank needs for training."""
        # An upper bound, because balancing adds training rows but no validation rows.
        with_validation = self.rows / (1 - self.config.data.validation_fraction)
        largest = largest_candidate(self.config)
        states, disk = _state_bytes(largest, self.shape, math.ceil(with_validation / ranks))
        return PROCESS_BYTES + 2 * states + _solution_bytes(largest, self.shape), disk


def stages_of(config: Config) -> list[str]:
    """Return the stages of a configuration, in their order."""
    return ["prepare", *(["search"] if config.has_search else []), "train", "evaluate"]


def job_stages(config: Config) -> list[Stage]:
    """Return the jobs of a configuration: one per stage (training and evaluation share one), and one for all stages."""
    return ["prepare", "search", "train", "all"] if config.has_search else ["prepare", "train", "all"]


def measure(run: RunDirectory, where: str) -> Measured:
    """Return the measurements of a finished run; zero for stages that it does not have.

    Parameters
    ----------
    run : RunDirectory
    where : str
        Description of the run.

    Raises
    ------
    DataDamagedError
        If a record of the run was altered, or has another format than this version writes.
    """
    try:
        return _measure(run, where)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataDamagedError(
            f"{run.path}: its records do not have the format of this version ({type(error).__name__}: {error}). "
            "Without --out, rcdp plan measures again."
        ) from None


def _measure(run: RunDirectory, where: str) -> Measured:
    index = load_index(run.shards)
    rows = index["splits"]["train"]["rows"]
    remedy = "Without --out, rcdp plan measures again."
    timings = [line["timing"]["seconds"] for line in read_sealed_lines(run.search / "history.jsonl", remedy=remedy)]
    epochs = read_sealed_lines(run.train / "metrics.jsonl", remedy=remedy)
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


def _prepare_bytes(config: Config, shape: Sequence[int], rows: int, cores: int) -> int:
    """Return the memory of the preparation in bytes: several copies of its samples, at most its memory budget."""
    row = 4 * math.prod(shape)
    samples = COPIES_IN_PREPARATION * row * rows + block_bytes(row, cores)
    return PREPARE_PROCESS_BYTES + min(config.data.memory_budget * MIB, samples)


def _search_bytes(config: Config, shape: Sequence[int], classes: int) -> int:
    from rcdp_hpc.search.effective import evaluated_shape, reads_extractor
    from rcdp_hpc.search.evaluation.limits import estimated_bytes

    read = evaluated_shape(config, shape)
    rows = config.search.train_rows + config.search.validation_rows
    candidates = max(1, config.search.candidates_at_once) * estimated_bytes(config, read, rows, classes)
    values = math.prod(shape) + (math.prod(read) if reads_extractor(config) else 0)
    return PROCESS_BYTES + 4 * rows * values + candidates


def _state_bytes(config: Config, shape: Sequence[int], rows: int) -> tuple[int, int]:
    """Return the bytes of the states of `rows` rows in memory and on disk, as in `training.states.placement`."""
    samples = 4 * math.prod(shape) * rows
    states = samples if config.extractor.trained else 4 * _width(config, shape) * rows
    if config.states.precision != "kernel":
        states //= 2
    # Without a limit, the job requests the memory that the states need.
    if states <= config.states.memory_mib * MIB or not config.states.memory_mib:
        return states, 0
    return (0, states) if states <= config.states.disk_mib * MIB else (samples, 0)


def _solution_bytes(config: Config, shape: Sequence[int]) -> int:
    """Return the bytes of the sums of an extreme learning machine; 0 for other readouts."""
    from rcdp_hpc.networks.extractors import extractor_of
    from rcdp_hpc.training.checks import elm_bytes

    if not config.readout.autoencodes:
        return 0
    bands = extractor_of(config, shape).bands if config.readout.bands == "separate" else 1
    return elm_bytes(config.readout, _width(config, shape), bands)


def _width(config: Config, shape: Sequence[int]) -> int:
    """Return the number of stored values per sample."""
    from rcdp_hpc.networks.extractors import extractor_of

    return extractor_of(config, shape).feature_shape().features

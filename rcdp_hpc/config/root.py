"""The complete configuration: all sections."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PrivateAttr, model_validator

from rcdp_hpc.config.augment import AugmentSection
from rcdp_hpc.config.compare import CompareSection
from rcdp_hpc.config.data import DataSection
from rcdp_hpc.config.extractor import ExtractorSection
from rcdp_hpc.config.optimizer import LossSection, OptimizerSection, ScheduleSection
from rcdp_hpc.config.parallel import ParallelSection, PartitionSection
from rcdp_hpc.config.prediction import PredictionSection
from rcdp_hpc.config.pruning import PruningSection
from rcdp_hpc.config.readout import ReadoutSection
from rcdp_hpc.config.reservoir import ReservoirSection
from rcdp_hpc.config.rules import contradictions
from rcdp_hpc.config.search import SearchSection
from rcdp_hpc.config.section import RESUMABLE, Section
from rcdp_hpc.config.training import CheckpointSection, StatesSection, TrainingSection

STAGES = ("prepare", "search", "train", "evaluate")
# The sections that decide what a network computes, and those that decide how it is trained as well.
NETWORK_SECTIONS = ("reservoir", "extractor", "augment", "readout")
TRAINING_SECTIONS = (
    *NETWORK_SECTIONS, "loss", "optimizer", "schedule", "training", "pruning", "parallel", "partition", "states",
    "checkpoint", "prediction",
)  # fmt: skip


class RunSection(Section):
    """Settings of the whole run."""

    seed: int = Field(1, ge=0, lt=2**31, description="seed of the split, the balancing, the search and the training")
    stall_seconds: int = Field(
        600,
        ge=10,
        description="seconds without progress of a rank after which the job ends",
        json_schema_extra=RESUMABLE,
    )
    progress: bool = Field(True, description="show progress on rank 0", json_schema_extra=RESUMABLE)
    same_processor: Literal["warn", "refuse"] = Field(
        "warn",
        description="what to do if a search or training is resumed on another kind of processor or with other "
        "libraries, which changes the last digits of the result",
        json_schema_extra=RESUMABLE,
    )


class Config(Section):
    """All settings of a run.

    Its fields are the sections of a configuration file, theirs are the keys: ``config.reservoir.nodes``.
    docs/configuration.md lists all of them.
    """

    run: RunSection = Field(default_factory=RunSection)
    data: DataSection = Field(default_factory=DataSection)
    reservoir: ReservoirSection = Field(default_factory=ReservoirSection)
    search: SearchSection = Field(default_factory=SearchSection)
    extractor: ExtractorSection = Field(default_factory=ExtractorSection)
    augment: AugmentSection = Field(default_factory=AugmentSection)
    readout: ReadoutSection = Field(default_factory=ReadoutSection)
    loss: LossSection = Field(default_factory=LossSection)
    optimizer: OptimizerSection = Field(default_factory=OptimizerSection)
    schedule: ScheduleSection = Field(default_factory=ScheduleSection)
    training: TrainingSection = Field(default_factory=TrainingSection)
    pruning: PruningSection = Field(default_factory=PruningSection)
    parallel: ParallelSection = Field(default_factory=ParallelSection)
    partition: PartitionSection = Field(default_factory=PartitionSection)
    states: StatesSection = Field(default_factory=StatesSection)
    checkpoint: CheckpointSection = Field(default_factory=CheckpointSection)
    prediction: PredictionSection = Field(default_factory=PredictionSection)
    compare: CompareSection = Field(default_factory=CompareSection)

    _chosen: frozenset[str] | None = PrivateAttr(default=None)

    @property
    def chosen(self) -> frozenset[str] | None:
        """Dotted keys that the user's file sets, while the others wait for the kind of data; otherwise None."""
        return self._chosen

    def with_chosen(self, chosen: frozenset[str] | None) -> Config:
        """Return a copy whose `chosen` keys are these."""
        copy = self.model_copy()
        copy._chosen = chosen
        return copy

    @property
    def shard_seed(self) -> int:
        """The seed that the shards are made with."""
        return self.run.seed if self.data.seed < 0 else self.data.seed

    @property
    def has_search(self) -> bool:
        """Whether the search stage has work: a selection or at least one generation."""
        return self.search.generations > 0 or self.search.method == "select"

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        problems = list(contradictions(self))
        if problems:
            raise ValueError("; ".join(problems))
        return self

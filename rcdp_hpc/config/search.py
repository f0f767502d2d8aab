"""``[search]`` and the dimensions of its space."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from rcdp_hpc.config.choices import MOTH_FLAME_IMPROVEMENTS, SEARCH_OPTIMIZERS
from rcdp_hpc.config.section import RESUMABLE, Section


class RangeSection(Section):
    """One dimension of the search space: two bounds, or a list of choices."""

    low: float | None = Field(None, description="lower bound")
    high: float | None = Field(None, description="upper bound")
    log: bool = Field(False, description="search on a logarithmic scale")
    integer: bool = Field(False, description="round to whole numbers")
    choices: list[float | str] | None = Field(None, description="the values to choose from, instead of bounds")
    start: float | str | None = Field(None, description="value of the first candidate; left out, the configured one")

    @model_validator(mode="after")
    def _ordered(self) -> RangeSection:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log or self.integer:
                raise ValueError("choices exclude low, high, log and integer")
            if len(self.choices) < 2 or len(set(self.choices)) < len(self.choices):
                raise ValueError(f"choices = {self.choices} must be two or more different values")
            if self.start is not None and self.start not in self.choices:
                raise ValueError(f"start = {self.start!r} is not among the choices {self.choices}")
            return self
        if self.low is None or self.high is None:
            raise ValueError("low and high are needed, or choices")
        if self.start is not None and not (isinstance(self.start, float) and self.low <= self.start <= self.high):
            raise ValueError(f"start = {self.start!r} must lie between low = {self.low} and high = {self.high}")
        if not self.low < self.high:
            raise ValueError(f"low = {self.low} must be below high = {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low} must be above 0 on a logarithmic scale")
        return self


class SpaceSection(Section):
    """The dimensions of the search space; one left out keeps its configured value."""

    state_set: RangeSection | None = Field(
        None, description="named set of reservoir settings (choices; docs/search.md lists them)"
    )
    density: RangeSection | None = Field(None, description="connection density p")
    spectral_radius: RangeSection | None = Field(None, description="spectral radius rho")
    weight_scale: RangeSection | None = Field(
        None, description="weight scale w (with reservoir.scaling = weight_scale)"
    )
    input_scaling: RangeSection | None = Field(None, description="input scaling")
    bias_scaling: RangeSection | None = Field(None, description="bias scaling")
    leak: RangeSection | None = Field(None, description="leak rate a")
    activation: RangeSection | None = Field(None, description="activation f (choices)")
    learning_rate: RangeSection | None = Field(None, description="learning rate of the readout (evaluation = train)")
    relu_slope: RangeSection | None = Field(None, description="slope of the ReLU below zero (evaluation = train)")
    hidden: RangeSection | None = Field(None, description="width of the readout's hidden layers (evaluation = train)")
    weight_decay: RangeSection | None = Field(None, description="weight decay of the readout (evaluation = train)")


class SearchSection(Section):
    """The search for the reservoir and its readout, by default moth-flame (eq. 4 and 5)."""

    method: Literal["optimizer", "select"] = Field("optimizer", description="how the reservoir is searched for")
    state_sets: list[str] = Field(
        default_factory=list,
        max_length=1000,
        description="state sets that are judged (method = select); empty: all for the kind of data",
    )
    optimizer: Annotated[str, AfterValidator(SEARCH_OPTIMIZERS.accepted)] = Field(
        "mfo",
        description="what proposes candidates",
    )
    improvements: Annotated[list[str], AfterValidator(MOTH_FLAME_IMPROVEMENTS.all_accepted)] = Field(
        default_factory=list, description="changes to moth-flame that are not part of the published algorithm"
    )
    population: int = Field(50, ge=2, le=100_000, description="candidates per generation, moths N (paper: 50)")
    generations: int = Field(100, ge=0, le=100_000, description="generations T (paper: 100); 0 skips the search")
    fitness: Literal["eq5", "accuracy"] = Field("eq5", description="what is maximised")
    density_weight: float = Field(0.0, ge=0, description="lambda of eq. 5; 0 switches its density term off")
    density_target: float = Field(0.1, ge=0, le=1, description="p_target of eq. 5")
    evaluation: Literal["ridge", "train", "function"] = Field(
        "ridge",
        description="how a candidate is evaluated",
    )
    function: str = Field(
        "", description="your own fitness as module:function (evaluation = function); docs/search.md has its contract"
    )
    folds: int = Field(
        1, ge=1, le=100, description="folds of cross-validation within the fitness, each balanced separately; 1 is none"
    )
    halving: int = Field(
        1,
        ge=1,
        le=10,
        description="evaluate a generation on few rows first, its best 1/n on n times as many, and so on; 1 is off",
    )
    halving_steps: int = Field(2, ge=1, le=5, description="steps until all rows are reached (halving above 1)")
    epochs: int = Field(3, ge=1, description="epochs of training per candidate (evaluation = train)")
    train_rows: int = Field(5000, ge=1, description="training rows that a candidate is fitted to (at most)")
    validation_rows: int = Field(2000, ge=1, description="validation rows that a candidate is evaluated on (at most)")
    threads: int = Field(
        1,
        ge=1,
        le=1024,
        description="threads per candidate; they change the last digits of the result, the number of ranks does not",
    )
    device: Literal["cpu", "gpu"] = Field("cpu", description="where a candidate's states are computed")
    candidates_at_once: int = Field(
        1,
        ge=1,
        le=1024,
        description="candidates whose states a rank computes in common products, for GPUs (evaluation = ridge)",
    )
    group_ranks: int = Field(
        0,
        ge=0,
        le=100_000,
        description="ranks that evaluate one candidate together; 0 chooses from measured costs",
        json_schema_extra=RESUMABLE,
    )
    stop_seconds: float = Field(
        0.0, ge=0, description="end the search within this many seconds; 0 is no limit", json_schema_extra=RESUMABLE
    )
    stop_evaluations: int = Field(
        0, ge=0, description="end the search after this many evaluations; 0 is no limit", json_schema_extra=RESUMABLE
    )
    stop_stagnation: int = Field(
        0,
        ge=0,
        description="end the search after this many generations without a better candidate; 0 is never",
        json_schema_extra=RESUMABLE,
    )
    candidate_seconds: float = Field(
        0.0,
        ge=0,
        description="a candidate that takes longer fails, and one that hangs ends the job; 0 is no limit",
        json_schema_extra=RESUMABLE,
    )
    candidate_memory: int = Field(
        0,
        ge=0,
        description="MiB a candidate may need by estimate; 0 is the machine's or the job's limit over its ranks",
        json_schema_extra=RESUMABLE,
    )
    space: SpaceSection = Field(default_factory=SpaceSection, description="bounds of each searched value")

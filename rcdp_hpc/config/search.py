"""``[search]`` and the dimensions of its space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from rcdp_hpc.config.choices import MOTH_FLAME_IMPROVEMENTS, SEARCH_OPTIMIZERS
from rcdp_hpc.config.choices.chosen_by import fitness_accepted
from rcdp_hpc.config.section import RESUMABLE, Section


class RangeSection(Section):
    """One dimension of the search space: two bounds, or a list of choices."""

    low: float | None = Field(None, description="lower bound")
    high: float | None = Field(None, description="upper bound")
    log: bool = Field(False, description="search on a logarithmic scale")
    integer: bool = Field(False, description="round to integers")
    choices: list[float | str] | None = Field(None, description="the values to choose from, instead of bounds")
    start: float | str | None = Field(
        None, description="value of the first candidate; default: the configured value of the key"
    )

    @property
    def smallest(self) -> float | None:
        """The least value; None if the choices are text."""
        return min(self._numbers, default=None) if self.choices is not None else self.low

    @property
    def largest(self) -> float | None:
        """The greatest value; None if the choices are text."""
        return max(self._numbers, default=None) if self.choices is not None else self.high

    @property
    def _numbers(self) -> list[float]:
        return [choice for choice in self.choices or () if isinstance(choice, float)]

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


def _dimension(key: str, description: str) -> Any:
    """Return the field of a dimension whose values replace those of a dotted key; no key: `state_set`."""
    return Field(None, description=description, json_schema_extra={"replaces": key})


class SpaceSection(Section):
    """The dimensions of the search space; one left out keeps its configured value."""

    state_set: RangeSection | None = _dimension(
        "", "named set of reservoir settings, as choices (docs/search.md lists them)"
    )
    density: RangeSection | None = _dimension("reservoir.density", "connection density p")
    spectral_radius: RangeSection | None = _dimension("reservoir.spectral_radius", "spectral radius rho")
    weight_scale: RangeSection | None = _dimension(
        "reservoir.weight_scale", "weight scale w (with reservoir.scaling = weight_scale)"
    )
    input_scaling: RangeSection | None = _dimension("reservoir.input_scaling", "input scaling")
    bias_scaling: RangeSection | None = _dimension("reservoir.bias_scaling", "bias scaling")
    leak: RangeSection | None = _dimension("reservoir.leak", "leak rate a")
    activation: RangeSection | None = _dimension("reservoir.activation", "activation f (choices)")
    learning_rate: RangeSection | None = _dimension(
        "optimizer.learning_rate", "learning rate of the readout (evaluation = train)"
    )
    relu_slope: RangeSection | None = _dimension(
        "readout.relu_slope", "slope of the ReLU below zero (evaluation = train)"
    )
    hidden: RangeSection | None = _dimension(
        "readout.hidden", "width of the readout's hidden layers (evaluation = train)"
    )
    weight_decay: RangeSection | None = _dimension(
        "optimizer.weight_decay", "weight decay of the readout (evaluation = train)"
    )
    nodes: RangeSection | None = _dimension("reservoir.nodes", "reservoir neurons n")
    layers: RangeSection | None = _dimension("reservoir.layers", "stacked reservoirs")
    states: RangeSection | None = _dimension(
        "reservoir.states", "number of states that are features (with 'states' in reservoir.reduction)"
    )
    readout_layers: RangeSection | None = _dimension(
        "readout.layers", "number of the readout's layers (evaluation = train)"
    )
    readout_activation: RangeSection | None = _dimension(
        "readout.activation", "activation of the readout's layers, as choices (evaluation = train)"
    )
    outputs: RangeSection | None = _dimension(
        "readout.outputs", "components of the reservoir output o (evaluation = train)"
    )
    dropout: RangeSection | None = _dimension(
        "readout.dropout", "fraction of the readout's hidden units that are dropped (evaluation = train)"
    )
    batch: RangeSection | None = _dimension("training.batch", "samples per rank and step (evaluation = train)")
    elm_penalty: RangeSection | None = _dimension(
        "readout.elm_penalty", "C of the layers of an extreme learning machine (evaluation = train)"
    )


# The dotted key whose value each dimension replaces, in the order of the search coordinates.
DIMENSION_KEYS: Mapping[str, str] = {
    name: str(field.json_schema_extra["replaces"])
    for name, field in SpaceSection.model_fields.items()
    if isinstance(field.json_schema_extra, dict)
}


class SearchSection(Section):
    """The search for the reservoir and its readout, by default moth-flame (eq. 4 and 5)."""

    method: Literal["optimizer", "select"] = Field("optimizer", description="how reservoirs are proposed")
    state_sets: list[str] = Field(
        default_factory=list,
        max_length=1000,
        description="state sets to evaluate; empty: all sets for the kind of data",
    )
    optimizer: Annotated[str, AfterValidator(SEARCH_OPTIMIZERS.accepted)] = Field(
        "mfo",
        description="optimiser that proposes candidates (method = optimizer)",
    )
    improvements: Annotated[list[str], AfterValidator(MOTH_FLAME_IMPROVEMENTS.all_accepted)] = Field(
        default_factory=list, description="changes to moth-flame that are not in the published algorithm"
    )
    population: int = Field(50, ge=2, le=100_000, description="candidates per generation, moths N (paper: 50)")
    generations: int = Field(100, ge=0, le=100_000, description="generations T (paper: 100); 0 skips the search")
    fitness: Annotated[str, AfterValidator(fitness_accepted)] = Field(
        "eq5", description="what is maximised; of a criterion that is better if lower, its negative"
    )
    density_weight: float = Field(
        0.0,
        ge=0,
        description="lambda of eq. 5, in units of the first candidate's 1/E; 0 removes the density term",
    )
    density_target: float = Field(0.1, ge=0, le=1, description="p_target of eq. 5")
    evaluation: Literal["ridge", "train", "function"] = Field(
        "ridge",
        description="how a candidate is evaluated",
    )
    function: str = Field("", description="your fitness as module:function (docs/search.md)")
    folds: int = Field(1, ge=1, le=100, description="cross-validation folds in the fitness; 1 is none")
    halving: int = Field(
        1,
        ge=1,
        le=10,
        description="successive halving: evaluate a generation on few rows first, then its best 1/n on n times as "
        "many; 1 is off",
    )
    halving_steps: int = Field(
        2, ge=1, le=5, description="number of halvings until all rows are used (halving above 1)"
    )
    epochs: int = Field(3, ge=1, description="epochs of training per candidate")
    train_rows: int = Field(5000, ge=1, description="largest number of training rows that a candidate is fitted to")
    validation_rows: int = Field(
        2000, ge=1, description="largest number of validation rows that a candidate is evaluated on"
    )
    threads: int = Field(
        1,
        ge=1,
        le=1024,
        description="threads per candidate; the last digits of the result depend on them, but not on the number of "
        "ranks",
    )
    device: Literal["auto", "cpu", "gpu"] = Field(
        "auto", description="what computes candidates; auto chooses when the search starts, and is recorded"
    )
    candidates_at_once: int = Field(
        0,
        ge=0,
        le=1024,
        description="candidates that a rank evaluates in common products, for GPUs (evaluation = ridge); 0: chosen by "
        "device, memory and size when the search starts, and recorded",
    )
    group_ranks: int = Field(
        0,
        ge=0,
        le=100_000,
        description="ranks that evaluate one candidate together; 0: chosen from measured costs",
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
        description="end the search after this many generations without a better candidate; 0 is no limit",
        json_schema_extra=RESUMABLE,
    )
    candidate_seconds: float = Field(
        0.0,
        ge=0,
        description="seconds after which a candidate fails; one that does not return ends the job; 0 is no limit",
        json_schema_extra=RESUMABLE,
    )
    candidate_memory: int = Field(
        0,
        ge=0,
        description="largest estimated memory of a candidate in MiB; 0: the limit of node or job, divided by the ranks",
        json_schema_extra=RESUMABLE,
    )
    space: SpaceSection = Field(default_factory=SpaceSection, description="bounds of each searched value")

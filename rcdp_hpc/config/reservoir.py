"""``[reservoir]``: its size, weights and dynamics, how samples are cut, what is kept of its states."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from rcdp_hpc.config.choices import ACTIVATIONS, KERNELS
from rcdp_hpc.config.choices.activations import is_positive
from rcdp_hpc.config.section import PATH, RESUMABLE, Section

MOST_STEPS = 1_000_000
# Keys that, set to other values than their defaults, make other matrices than a random mask of uniform weights for one
# reservoir.
NOT_PLAIN = (
    "topology", "weights", "input_weights", "input_density", "feature_scaling", "matrices", "layers", "scans", "window",
    "bidirectional",
)  # fmt: skip


class ReservoirSection(Section):
    """The fixed random recurrent network (eq. 3 and 9)."""

    kind: Literal["random", "diagonal", "none"] = Field("random", description="kind of reservoir")
    nodes: int = Field(1000, ge=1, le=100_000, description="reservoir neurons n (paper: 1000)")
    density: float = Field(0.1, gt=0, le=1, description="connection density p (paper: 0.1)")
    scaling: Literal["spectral_radius", "weight_scale"] = Field(
        "spectral_radius", description="what the recurrent weights are scaled to"
    )
    spectral_radius: float = Field(0.9, gt=0, le=10, description="largest eigenvalue modulus rho of C (paper: 0.9)")
    weight_scale: float = Field(0.1, gt=0, le=10, description="recurrent weights are uniform in [-w, w]")
    input_scaling: float = Field(1.0, gt=0, le=100, description="input weights are uniform in [-s, s]")
    input_normalised: bool = Field(
        False,
        description="divide the input weights by the square root of the number of inputs of a neuron (uniform: of a "
        "third of it), so that inputs of standard deviation 1 give W_in u the standard deviation input_scaling "
        "(diagonal: always)",
    )
    series_scaling: Literal["none", "standard"] = Field(
        "none", description="how each series is scaled before it drives the reservoir"
    )
    differences: bool = Field(
        False, description="add the differences between consecutive steps as features, after series_scaling"
    )
    difference_scaling: float = Field(
        0.0,
        ge=0,
        le=1_000_000,
        description="factor on the differences; 0 divides the differences of each series by their root mean square",
    )
    bias_scaling: float = Field(0.1, ge=0, le=100, description="biases are uniform in [-s, s]")
    leak: float = Field(1.0, gt=0, le=1, description="leak rate a of eq. 9 (paper: 1)")
    leak_low: float = Field(
        0.0,
        ge=0,
        le=1,
        description="lowest leak rate: each neuron draws its rate log-uniformly from [leak_low, leak]; 0: every "
        "neuron has the rate leak",
    )
    memory_units: int = Field(64, ge=1, le=100_000, description="oscillators of the linear memory")
    memory_steps: list[float] = Field(
        default_factory=lambda: [1.0, 60.0],
        min_length=2,
        max_length=2,
        description="shortest and longest time constant of the oscillators, in steps",
    )
    activation: Annotated[str, AfterValidator(ACTIVATIONS.accepted)] = Field(
        "tanh", description="activation f of eq. 9 (paper: sigmoid in Table 2, tanh in eq. 9)"
    )
    topology: Literal["random", "ring", "small-world", "cycle-jumps"] = Field(
        "random", description="which neurons are connected; ring and cycle-jumps ignore reservoir.density"
    )
    rewiring: float = Field(
        0.1,
        ge=0,
        le=1,
        description="fraction of the connections that are rewired to a random neuron",
    )
    jump: int = Field(10, ge=2, le=100_000, description="distance between the ends of a jump, in neurons")
    weights: Literal["uniform", "normal", "bernoulli", "orthogonal"] = Field(
        "uniform", description="distribution of the recurrent weights before they are scaled"
    )
    input_weights: Literal["uniform", "normal", "bernoulli"] = Field(
        "uniform", description="distribution of the input weights before they are scaled"
    )
    input_density: float = Field(1.0, gt=0, le=1, description="fraction of the input connections that exist")
    feature_scaling: list[float] = Field(
        default_factory=list,
        max_length=100_000,
        description="factor on input_scaling for each feature of a step; empty: 1 for all",
    )
    matrices: str = Field(
        "",
        description="npz file with your own matrices (recurrent, input, bias) instead of random ones; it is copied "
        "into the run directory",
        json_schema_extra=RESUMABLE | PATH,
    )
    layers: int = Field(
        1, ge=1, le=100, description="number of stacked reservoirs, each driven by the states of the one below it"
    )
    scans: list[Literal["forward", "backward", "rows", "columns", "rows-backward", "columns-backward"]] = Field(
        default_factory=list,
        max_length=100,
        description="parallel reservoirs, one for each way of reading the sequence (rows and columns: the halves of "
        "sequence = both); empty: one, forward",
    )
    window: int = Field(
        1, ge=1, le=1000, description="number of steps that a neuron reads at once: the current step and earlier ones"
    )
    bidirectional: bool = Field(
        False, description="drive each reservoir a second time, from the last step to the first"
    )
    noise: float = Field(
        0.0,
        ge=0,
        le=100,
        description="standard deviation of normal noise in the argument of f, for training samples only; 0 is none",
    )
    sequence: Literal["rows", "columns", "both", "patches", "windows", "channels", "pixels"] = Field(
        "rows",
        description="how a sample is cut into a sequence (docs/cutting.md)",
    )
    piece_size: list[int] = Field(
        default_factory=list,
        max_length=2,
        description="[height, width] of a patch, or [steps] of a window",
    )
    piece_stride: list[int] = Field(
        default_factory=list,
        max_length=2,
        description="distance between the starts of patches or windows, in the form of piece_size; empty: no gap and "
        "no overlap",
    )
    piece_edge: Literal["refuse", "drop"] = Field(
        "refuse", description="what to do with rows, columns or steps after the last complete patch or window"
    )
    reduction: list[Literal["states", "all", "last", "mean", "std", "mean_std", "segments", "positive", "max"]] = Field(
        default_factory=lambda: ["states"],  # type: ignore[arg-type]
        min_length=1,
        max_length=10,
        description="features computed from the states: one reduction, or a list that is joined in this order",
    )
    segments: int = Field(
        4,
        ge=1,
        le=1000,
        description="number of equal parts of a series whose means are features",
    )
    states: int = Field(
        1,
        ge=1,
        le=1000,
        description="number of states that are features, equally spaced in time, the last one included (reduction = "
        "states)",
    )
    steps: list[int] = Field(
        default_factory=list,
        max_length=1000,
        description="steps whose states are features, counted from 0, or from the end if negative; empty: equally "
        "spaced",
    )
    warm_up: int = Field(0, ge=0, le=1_000_000, description="number of first steps whose states are not used")
    seed: int = Field(1, ge=0, lt=2**31, description="seed of every random matrix of the reservoir")
    kernel: Annotated[str, AfterValidator(KERNELS.accepted)] = Field("auto", description="how states are computed")
    batch_rows: int = Field(
        512,
        ge=0,
        le=1_000_000,
        description="samples whose states are computed at once, also the row block of Gram sums; 0: measured once "
        "and recorded, on a GPU also if it is not set",
    )

    @property
    def is_plain(self) -> bool:
        """Whether there is one reservoir with a random mask of uniform weights."""
        return all(
            getattr(self, name) == type(self).model_fields[name].get_default(call_default_factory=True)
            for name in NOT_PLAIN
        )

    @field_validator("reduction", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _kept(self) -> ReservoirSection:
        names = [part for name in self.reduction for part in (("mean", "std") if name == "mean_std" else (name,))]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"reservoir.reduction = {self.reduction} keeps {twice!r} twice: name each once")
        if "all" in names and len(names) > 1:
            raise ValueError("reservoir.reduction = 'all' keeps every state and takes no other reduction next to it")
        if "all" in names and self.warm_up:
            raise ValueError("reservoir.reduction = 'all' keeps every state: set reservoir.warm_up = 0")
        if self.steps and "states" not in names:
            raise ValueError("reservoir.steps needs 'states' in reservoir.reduction")
        if "positive" in names and is_positive(self.activation):
            raise ValueError(
                "reservoir.reduction = 'positive' is 1 for every neuron with reservoir.activation = "
                f"{self.activation!r}, whose states are all above 0: take it out, or choose another activation"
            )
        if self.leak < self.leak_low:
            raise ValueError(
                f"reservoir.leak = {self.leak:g} is the highest rate and must not be below reservoir.leak_low = "
                f"{self.leak_low:g}: raise it, or lower leak_low (0: all neurons have leak)"
            )
        return self

    @model_validator(mode="after")
    def _cut(self) -> ReservoirSection:
        form = {"patches": "[height, width]", "windows": "[steps]"}.get(self.sequence)
        if form is None:
            if self.piece_size or self.piece_stride:
                raise ValueError(
                    f"reservoir.piece_size and piece_stride are for sequence = 'patches' or 'windows', not "
                    f"{self.sequence!r}: set reservoir.sequence, or take them out"
                )
            return self
        axes = 1 + form.count(",")
        if len(self.piece_size) != axes:
            raise ValueError(
                f"reservoir.sequence = {self.sequence!r} needs reservoir.piece_size = {form}, not {self.piece_size}"
            )
        if self.piece_stride and len(self.piece_stride) != axes:
            raise ValueError(f"reservoir.piece_stride = {self.piece_stride}: expected {form}, as piece_size, or []")
        if min(self.piece_size + self.piece_stride) < 1:
            raise ValueError(
                f"reservoir.piece_size = {self.piece_size} and piece_stride = {self.piece_stride}: every number must "
                "be 1 or more"
            )
        return self

    @model_validator(mode="after")
    def _memory(self) -> ReservoirSection:
        shortest, longest = self.memory_steps
        if not 0 < shortest <= longest <= MOST_STEPS:
            raise ValueError(
                f"reservoir.memory_steps = {self.memory_steps}: expected [shortest, longest] with 0 < shortest <= "
                f"longest <= {MOST_STEPS}"
            )
        if self.kind == "diagonal" and self.matrices:
            raise ValueError("reservoir.matrices are those of kind = 'random': take it out, or set that kind")
        return self

    @model_validator(mode="after")
    def _fitting(self) -> ReservoirSection:
        halves = [scan for scan in self.scans if scan.startswith(("rows", "columns"))]
        if halves and self.sequence != "both":
            raise ValueError(f"reservoir.scans: {halves[0]} is a half of reservoir.sequence = 'both': set that")
        if self.weights == "orthogonal" and self.topology != "random":
            raise ValueError("reservoir.weights = 'orthogonal' needs reservoir.topology = 'random'")
        if self.matrices and self.input_normalised:
            raise ValueError("reservoir.matrices are taken as they are: set reservoir.input_normalised = false")
        if self.matrices and (self.layers > 1 or len(self.scans) > 1):
            raise ValueError("reservoir.matrices holds one reservoir: set reservoir.layers = 1 and one scan")
        return self

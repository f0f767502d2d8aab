"""All sections together, and what they demand of one another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, PrivateAttr, model_validator

from rcdp_hpc.config.data import DataSection
from rcdp_hpc.config.reservoir import ReservoirSection
from rcdp_hpc.config.search import SearchSection
from rcdp_hpc.config.section import RESUMABLE, Section
from rcdp_hpc.config.training import READOUTS, STEPWISE, TrainingSection

STAGES = ("prepare", "search", "train", "evaluate")


class RunSection(Section):
    """Settings of the run as a whole."""

    seed: int = Field(1, ge=0, lt=2**31, description="seed of the split, the balancing, the search and the training")
    stall_seconds: int = Field(
        600,
        ge=10,
        description="seconds after which a rank that stands still, or misses a step of the training, ends the job",
        json_schema_extra=RESUMABLE,
    )
    progress: bool = Field(True, description="show progress on rank 0", json_schema_extra=RESUMABLE)
    same_processor: Literal["warn", "refuse"] = Field(
        "warn",
        description="what to do if a search or a training continues on another kind of processor, with other "
        "instructions or libraries, which changes the last digits",
        json_schema_extra=RESUMABLE,
    )


class Config(Section):
    """All settings of a run."""

    run: RunSection = Field(default_factory=RunSection)
    data: DataSection = Field(default_factory=DataSection)
    reservoir: ReservoirSection = Field(default_factory=ReservoirSection)
    search: SearchSection = Field(default_factory=SearchSection)
    training: TrainingSection = Field(default_factory=TrainingSection)

    _chosen: frozenset[str] | None = PrivateAttr(default=None)

    @property
    def chosen(self) -> frozenset[str] | None:
        """The dotted keys that a user's file sets, while the others wait for the kind of data; None if none waits."""
        return self._chosen

    def with_chosen(self, chosen: frozenset[str] | None) -> Config:
        """Return the same settings, of which only these keys are the user's own."""
        copy = self.model_copy()
        copy._chosen = chosen
        return copy

    @property
    def shard_seed(self) -> int:
        """The seed that the shards are made with."""
        return self.run.seed if self.data.seed < 0 else self.data.seed

    @property
    def has_search(self) -> bool:
        """Whether there is a reservoir to search for, and a selection or a generation to do it in."""
        asked = self.search.generations > 0 or self.search.method == "select"
        return asked and self.reservoir.kind == "random"

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        space = self.search.space
        if space.spectral_radius is not None and self.reservoir.scaling != "spectral_radius":
            raise ValueError("search.space.spectral_radius needs reservoir.scaling = 'spectral_radius'")
        if min(self.training.extractor.kernel_weights) <= 0:
            raise ValueError("training.extractor.kernel_weights: every weight must be above 0")
        if min(self.training.ridge_penalties) <= 0:
            raise ValueError("training.ridge_penalties: every penalty must be above 0")
        if min(self.training.speeds, default=1.0) <= 0:
            raise ValueError("training.speeds: every speed must be above 0")
        if self.training.warm_start and not self.training.baseline:
            raise ValueError("training.warm_start needs training.baseline = true")
        self._check_readout()
        self._check_ridge()
        self._check_extractor()
        if self.training.nesterov and (self.training.optimizer != "sgd" or not self.training.momentum):
            raise ValueError("training.nesterov needs training.optimizer = 'sgd' and a training.momentum above 0")
        if self.training.warmup_epochs and self.training.warmup_steps:
            raise ValueError("training.warmup_epochs and training.warmup_steps: set one of them")
        if self.training.deterministic and (self.training.fusion_mib or self.training.cycle_ms):
            raise ValueError("training.fusion_mib and training.cycle_ms need training.deterministic = false")
        self._check_ranks()
        if space.weight_scale is not None and self.reservoir.scaling != "weight_scale":
            raise ValueError("search.space.weight_scale needs reservoir.scaling = 'weight_scale'")
        if self.has_search:
            self._check_evaluation()
            self._check_space()
        return self

    def _check_evaluation(self) -> None:
        if self.search.evaluation == "train" and self.training.readout == "ridge":
            raise ValueError(
                "search.evaluation = 'train' trains a readout, and training.readout = 'ridge' is solved: set "
                "search.evaluation = 'ridge', or another training.readout"
            )

    def _check_space(self) -> None:
        for name, reason in self._without_effect():
            if getattr(self.search.space, name) is not None:
                raise ValueError(
                    f"search.space.{name} has no meaning with {reason}: candidates would not differ by it, take it out"
                )

    def _without_effect(self) -> Iterator[tuple[str, str]]:
        """Yield dimensions that candidates could not differ by, and why."""
        reservoir, readout = self.reservoir, self.training.readout
        if self.search.evaluation == "function":  # it may make of them what it likes
            return
        if reservoir.topology in ("ring", "cycle-jumps"):
            yield "density", f"reservoir.topology = {reservoir.topology!r}"
        if reservoir.matrices:
            for name in ("density", "spectral_radius", "weight_scale", "input_scaling", "bias_scaling"):
                yield name, f"reservoir.matrices = {reservoir.matrices!r}"
        if self.search.evaluation == "train":
            if readout != "network":
                yield "relu_slope", f"training.readout = {readout!r}"
            if readout not in READOUTS:
                yield "hidden", f"training.readout = {readout!r}"

    def _check_ranks(self) -> None:
        training, apart = self.training, self.training.slices != "together"
        if apart and (training.local_steps > 1 or training.recut_epochs or training.ema):
            raise ValueError(
                f"training.slices = {training.slices!r} trains networks apart, each on its own rows to the end: set "
                "training.local_steps = 1, training.recut_epochs = 0 and training.ema = 0"
            )
        if training.slices == "ensemble" and training.augment.several_views:
            raise ValueError(
                "training.augment.test_flips and test_shift are for one network: set training.slices to another value"
            )
        way_out = "needs training.local_steps = 1 and training.slices = 'together': ranks on their own"
        if (apart or training.local_steps > 1) and training.precision == "fp16":
            raise ValueError(
                f"training.precision = 'fp16' {way_out} would scale their gradients differently. Take 'bf16'"
            )
        if (apart or training.local_steps > 1) and training.on_nan == "skip":
            raise ValueError(f"training.on_nan = 'skip' {way_out} cannot agree")
        if (apart or training.local_steps > 1) and training.compression != "none":
            raise ValueError(
                f"training.compression = {training.compression!r} {way_out} send no gradients, and their weights whole"
            )

    def _check_extractor(self) -> None:
        training, reservoir = self.training, self.reservoir
        augment, kind = training.augment, training.extractor.kind
        if (augment.changes or augment.mixup or augment.several_views) and not training.extractor.trained:
            raise ValueError(
                "[training.augment] changes samples before a trained extractor: set training.extractor.kind"
            )
        if min(training.extractor.channels) < 1:
            raise ValueError(f"training.extractor.channels = {training.extractor.channels}: each must be above 0")
        if kind == "none":
            return
        if kind == "kernels":
            self._check_kernels()
            return
        if self.search.generations:
            raise ValueError(
                f"training.extractor.kind = {kind!r} drives the reservoir by what it learns, which the search does not "
                "know: set search.generations = 0"
            )
        if training.extractor.patches < training.extractor.atoms:
            raise ValueError(
                f"training.extractor.patches = {training.extractor.patches} are fewer than training.extractor.atoms = "
                f"{training.extractor.atoms}: take more patches, or fewer atoms"
            )
        if training.extractor.trained:
            self._check_trained_extractor()
        if reservoir.matrices or any(scan not in ("forward", "backward") for scan in reservoir.scans):
            raise ValueError(
                f"training.extractor.kind = {kind!r} makes the sequences: leave out reservoir.matrices, and rows and "
                "columns of reservoir.scans"
            )

    def _check_kernels(self) -> None:
        extractor, readout = self.training.extractor, self.training.readout
        inputs = extractor.kernel_inputs
        if len(set(inputs)) < len(inputs):
            raise ValueError(f"training.extractor.kernel_inputs = {inputs}: name each input once")
        least = 84 * (len(inputs) + 1 if len(inputs) > 1 else 1)
        if extractor.kernels < least:
            raise ValueError(
                f"training.extractor.kernels = {extractor.kernels} is too few for {len(inputs)} inputs "
                f"(training.extractor.kernel_inputs): set it to {least} or more"
            )
        if readout in STEPWISE:
            raise ValueError(
                f"training.readout = {readout!r} reads states step by step, and training.extractor.kind = 'kernels' "
                "has features of whole series: set training.readout = 'ridge' or 'network'"
            )

    def _check_trained_extractor(self) -> None:
        training, reservoir = self.training, self.reservoir
        named = f"training.extractor.kind = {training.extractor.kind!r} is trained"
        if training.readout == "ridge":
            raise ValueError(f"{named} and needs a readout that is: not 'ridge'")
        if training.warm_start:
            raise ValueError(f"{named}, so that no ridge readout fits for long: set training.warm_start = false")
        if reservoir.noise:
            raise ValueError(f"{named}, and gradients flow through no noise: set reservoir.noise = 0")
        if reservoir.kernel not in ("auto", "dense-fp32"):
            raise ValueError(
                f"{named}, and gradients flow through float32 states alone: set reservoir.kernel = 'auto', and "
                "training.precision = 'bf16' for faster products"
            )
        if training.augment.alternate and not training.augment.flip:
            raise ValueError("training.augment.alternate says how to mirror images: set training.augment.flip = true")

    def _check_ridge(self) -> None:
        training = self.training
        if training.shifts and training.ridge_selection == "left_out":
            raise ValueError(
                f"training.ridge_selection = 'left_out' leaves out one row at a time, and training.shifts = "
                f"{training.shifts} repeats every row: set ridge_selection = 'validation', or shifts = 0"
            )
        if training.readout != "ridge":
            return
        default = TrainingSection()
        for key in ("loss", "focal_gamma"):
            value = getattr(training, key)
            if value != getattr(default, key):
                raise ValueError(
                    f"training.{key} = {value!r} has no effect with training.readout = 'ridge', which minimises the "
                    "squared error: take it out, or set another training.readout (training.class_weights and "
                    "training.label_smoothing do have an effect)"
                )

    def _check_readout(self) -> None:
        training, reservoir = self.training, self.reservoir
        if training.warm_start and training.readout != "network":
            raise ValueError(f"training.warm_start is for training.readout = 'network', not {training.readout!r}")
        if training.shifts and training.readout != "ridge":
            raise ValueError(
                f"training.shifts is for training.readout = 'ridge', not {training.readout!r}: where an extractor is "
                "trained, training.augment.crop shifts images"
            )
        if training.readout == "transformer" and training.outputs % training.heads:
            raise ValueError(
                f"training.outputs = {training.outputs} must be a multiple of training.heads = {training.heads}"
            )
        if training.span % 2 == 0:
            raise ValueError(f"training.span = {training.span} must be odd: a kernel has a middle")
        several = reservoir.reduction == ["all"] or max(reservoir.states, len(reservoir.steps)) > 1
        sequence = reservoir.kind == "none" or (reservoir.reduction in (["states"], ["all"]) and several)
        if training.readout in STEPWISE and not sequence:
            raise ValueError(
                f"training.readout = {training.readout!r} reads states step by step, and one of them alone is no "
                "sequence: set reservoir.reduction = 'all', or reservoir.states to 2 or more"
            )

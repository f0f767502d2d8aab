"""``[training]``: the parts of the network, and how it is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from rcdp_hpc.config.choices import EXTRACTORS, LOSSES, OPTIMIZERS, READOUTS, SCHEDULES
from rcdp_hpc.config.section import RESUMABLE, Section

STEPWISE = ("lstm", "gru", "transformer", "convolution")
KernelInput = Literal["values", "differences", "standardised"]
KERNEL_INPUTS: tuple[KernelInput, ...] = ("values", "differences", "standardised")


def positive_entries(values: list[float]) -> list[float]:
    """Return a list of numbers above 0."""
    if min(values, default=1.0) <= 0:
        raise ValueError("every entry must be above 0")
    return values


class ExtractorSection(Section):
    """What turns a sample into the sequence that drives the reservoir (eq. 8)."""

    kind: Annotated[str, AfterValidator(EXTRACTORS.accepted)] = Field(
        "none",
        description="what turns a sample into a sequence",
    )
    channels: list[int] = Field(
        default_factory=lambda: [64, 128, 256],
        min_length=1,
        max_length=10,
        description="channels after each stage, each of which halves height and width (convolution)",
    )
    residual: bool = Field(True, description="a residual block in each stage (convolution)")
    activation: Literal["relu", "gelu"] = Field("relu", description="activation of the stages (convolution)")
    whitening: int = Field(
        0,
        ge=0,
        le=16,
        description="side of the image patches that a first layer whitens, fixed without labels before the training; 0 "
        "is no such layer (convolution)",
    )
    sequence: Literal["rows", "positions"] = Field(
        "rows",
        description="what a step of the reservoir is (dictionary, convolution)",
    )
    patch: int = Field(6, ge=1, le=100, description="height and width of a patch in pixels (dictionary)")
    atoms: int = Field(
        256, ge=1, le=100_000, description="atoms of the dictionary; the map has twice as many channels (dictionary)"
    )
    stride: int = Field(1, ge=1, le=100, description="pixels between patches that are encoded (dictionary)")
    pool: int = Field(
        4, ge=1, le=100, description="regions each way that codes are averaged over: rows of the map (dictionary)"
    )
    threshold: float = Field(
        0.5, ge=0, le=100, description="projection of a patch on an atom from which it counts (dictionary)"
    )
    mirror: bool = Field(
        False, description="the map is the mean of those of an image and its mirror image (dictionary)"
    )
    power: float = Field(
        1.0,
        gt=0,
        le=1,
        description="power that averages of codes are raised to; 0.5 keeps a few strong edges from outweighing texture "
        "(dictionary)",
    )
    learning: Literal["kmeans", "patches"] = Field("kmeans", description="how the atoms are found (dictionary)")
    patches: int = Field(
        100_000,
        ge=1,
        le=2_000_000,
        description="patches of training rows that the dictionary is learned from (dictionary)",
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="number format of the products with the atoms (dictionary)"
    )
    kernels: int = Field(
        2520,
        ge=84,
        le=1_000_000,
        description="features of the random convolution kernels, rounded to a multiple of 84 (kernels)",
    )
    kernel_inputs: list[KernelInput] = Field(
        default_factory=lambda: list(KERNEL_INPUTS),
        min_length=1,
        description="what the kernels read; the first one has twice the features of each other (kernels)",
    )
    kernel_weights: list[float] = Field(
        default_factory=lambda: [0.1, 0.3, 1.0, 3.0],
        min_length=1,
        max_length=20,
        description="weights of the kernels' features next to the reservoir's states; the left-out error chooses one, "
        "and more rows than leave-one-out suits take weight 1 (kernels, readout = ridge)",
    )

    @property
    def trained(self) -> bool:
        """Whether the extractor is trained, so that states change from step to step and are not kept."""
        return self.kind not in ("none", "kernels", "dictionary")

    @field_validator("kernel_weights")
    @classmethod
    def _positive(cls, values: list[float]) -> list[float]:
        return positive_entries(values)

    @field_validator("channels")
    @classmethod
    def _at_least_one(cls, channels: list[int]) -> list[int]:
        if min(channels) < 1:
            raise ValueError("every entry must be 1 or more")
        return channels


class AugmentSection(Section):
    """Random changes of the training samples, where the extractor is trained."""

    crop: int = Field(0, ge=0, le=1000, description="images are shifted by up to this many pixels in each direction")
    edges: Literal["zero", "reflect"] = Field("zero", description="what fills the edge of a shifted image")
    flip: bool = Field(False, description="half of the images are mirrored from left to right")
    alternate: bool = Field(
        False, description="each image is mirrored in every second epoch, not by chance in half of them (flip = true)"
    )
    cutout: int = Field(0, ge=0, le=1000, description="side in pixels of a square that is cut out of each image")
    mixup: float = Field(
        0.0, ge=0, le=100, description="samples are mixed in pairs, by shares of Beta(a, a) with this a; 0 mixes none"
    )
    test_flips: bool = Field(False, description="predictions are averaged over an image and its mirror image")
    test_shift: int = Field(
        0,
        ge=0,
        le=1000,
        description="predictions are averaged over the image and copies shifted by this many pixels, up and left and "
        "down and right; 0 is none",
    )

    @property
    def changes(self) -> bool:
        """Whether training images are changed, each by itself."""
        return bool(self.crop or self.flip or self.cutout)

    @property
    def several_views(self) -> bool:
        """Whether predictions are averaged over several views of an image."""
        return bool(self.test_flips or self.test_shift)


class TrainingSection(Section):
    """The data-parallel training of the readout (eq. 10 to 12)."""

    readout: Annotated[str, AfterValidator(READOUTS.accepted)] = Field(
        "network",
        description="the readout",
    )
    readout_layers: int = Field(1, ge=1, le=100, description="layers of a readout that reads step by step")
    heads: int = Field(4, ge=1, le=1000, description="attention heads, a divisor of outputs (readout = transformer)")
    span: int = Field(3, ge=1, le=999, description="steps that a kernel spans, odd (readout = convolution)")
    ridge_penalties: list[float] = Field(
        default_factory=lambda: [
            1e-6,
            1e-5,
            1e-4,
            3e-4,
            1e-3,
            3e-3,
            1e-2,
            3e-2,
            0.1,
            0.3,
            1.0,
            3.0,
            10.0,
            100.0,
        ],
        min_length=1,
        max_length=100,
        description="ridge penalties to choose from, per row and standardised feature",
    )
    ridge_selection: Literal["auto", "left_out", "validation"] = Field(
        "auto", description="how the ridge penalty is chosen"
    )
    ridge_precision: Literal["double", "single"] = Field(
        "single", description="precision of the products in the ridge sums, which are float64"
    )
    shifts: int = Field(
        0,
        ge=0,
        le=100,
        description="training images are repeated, shifted by up to this many pixels in total: 1 gives "
        "5 copies, 2 gives 13 (readout = ridge)",
    )
    baseline: bool = Field(
        True, description="solve a ridge readout on the same states too, to compare the network with"
    )
    tree_baseline: Literal["auto", "always", "never"] = Field(
        "auto",
        description="score scikit-learn's boosted trees on a table too, to compare the model with",
        json_schema_extra=RESUMABLE,
    )
    warm_start: bool = Field(False, description="start the network as the ridge readout")
    loss: Annotated[str, AfterValidator(LOSSES.accepted)] = Field("cross_entropy", description="loss")
    focal_gamma: float = Field(
        2.0,
        ge=0,
        le=10,
        description="focusing parameter: the higher, the less well-predicted rows count (loss = focal)",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the target that is spread evenly over all classes"
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none",
        description="weight of a row in the loss",
    )
    l1: float = Field(0.0, ge=0, le=1, description="L1 penalty on weight matrices; with l2 it is the elastic net")
    l2: float = Field(0.0, ge=0, le=1, description="L2 penalty on weight matrices, in the loss for any optimizer")
    epochs: int = Field(250, ge=1, description="epochs at most (paper: 250)", json_schema_extra=RESUMABLE)
    batch: int = Field(64, ge=1, description="samples per rank and step (paper: 64)")
    global_batch: int = Field(
        0, ge=0, description="samples per step over all ranks, whatever their number; 0 is batch times the ranks"
    )
    optimizer: Annotated[str, AfterValidator(OPTIMIZERS.accepted)] = Field(
        "adam",
        description="optimiser",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD and of Muon")
    nesterov: bool = Field(False, description="Nesterov's momentum (optimizer = sgd)")
    learning_rate: float = Field(1e-3, gt=0, le=10, description="highest learning rate (paper: 0.001)")
    rate_scaling: Literal["none", "sqrt", "linear"] = Field(
        "none",
        description="how the learning rate grows with the number of ranks",
    )
    schedule: Annotated[str, AfterValidator(SCHEDULES.accepted)] = Field(
        "constant",
        description="learning rate over time",
    )
    schedule_epochs: int = Field(
        10, ge=1, description="epochs between falls (schedule = step), or without a better validation loss (plateau)"
    )
    schedule_factor: float = Field(
        0.1, gt=0, lt=1, description="factor of the learning rate at each fall (schedule = step or plateau)"
    )
    warmup_epochs: float = Field(0.0, ge=0, description="epochs in which the learning rate rises from near 0")
    warmup_steps: int = Field(0, ge=0, description="warm-up length in steps (instead of warmup_epochs)")
    on_nan: Literal["stop", "skip"] = Field(
        "stop",
        description="what happens when a gradient is not finite",
        json_schema_extra=RESUMABLE,
    )
    accumulate: int = Field(
        1, ge=1, le=10_000, description="batches whose gradients are added up for one update of the weights"
    )
    local_steps: int = Field(
        1,
        ge=1,
        description="steps between averages of the ranks' weights (local SGD); 1 averages gradients in every step",
    )
    slices: Literal["together", "averaged", "ensemble"] = Field(
        "together",
        description="what the ranks train",
    )
    compression: Literal["none", "fp16"] = Field(
        "none", description="number format in which gradients are sent between ranks"
    )
    deterministic: bool = Field(
        True,
        description="the same number of ranks gives bitwise the same result; false lets Horovod reorder sums",
    )
    fusion_mib: int = Field(
        0, ge=0, le=4096, description="MiB of gradients sent together (deterministic = false); 0: Horovod's own choice"
    )
    cycle_ms: float = Field(
        0.0, ge=0, le=1000, description="ms between sendings (deterministic = false); 0 is 0.2, or HOROVOD_CYCLE_TIME"
    )
    hierarchical: bool = Field(
        False, description="sum gradients within each node first, then between nodes (GPUs, Horovod with NCCL)"
    )
    clip_norm: float = Field(0.0, ge=0, description="largest norm of the summed gradient; 0 is no limit")
    weight_decay: float = Field(
        0.0, ge=0, le=1, description="weight decay: L2 penalty with adam and sgd, decoupled with adamw, lamb and muon"
    )
    outputs: int = Field(128, ge=1, description="components of the reservoir output o (eq. 10)")
    hidden: int = Field(
        128, ge=1, description="width of the two ReLU layers (eq. 11), units of a recurrent readout, channels"
    )
    relu_slope: float = Field(0.0, ge=0, lt=1, description="slope of the ReLU below zero; 0 is the plain ReLU")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of hidden units dropped in training")
    cache_precision: Literal["kernel", "bfloat16", "float16"] = Field(
        "kernel", description="number format that states are kept in"
    )
    cache_memory: int = Field(
        0,
        ge=0,
        le=2**30,
        description="MiB of states that a rank may keep; 0 is its share of the machine's or the job's memory",
        json_schema_extra=RESUMABLE,
    )
    cache_disk: int = Field(
        65536,
        ge=0,
        le=2**30,
        description="MiB of states that a rank may keep in a file in its $TMPDIR if they exceed cache_memory; 0 is "
        "none; states that exceed both are computed again in every step",
        json_schema_extra=RESUMABLE,
    )
    slabs: int = Field(12, ge=1, le=100_000, description="canonical slabs V that the training rows are divided into")
    recut_epochs: int = Field(
        0,
        ge=0,
        description="epochs after which the rows are distributed to the slabs again, as in the paper; 0 is never",
    )
    allotment: Literal["equal", "speeds", "measured"] = Field(
        "equal",
        description="how the slabs are shared by the ranks",
        json_schema_extra=RESUMABLE,
    )
    speeds: list[float] = Field(
        default_factory=list,
        max_length=1_000_000,
        description="relative speed of each rank, in order (allotment = speeds)",
        json_schema_extra=RESUMABLE,
    )
    loss_target: float = Field(
        1e-5, ge=0, description="stop when the training loss falls below it (paper: 1e-5)", json_schema_extra=RESUMABLE
    )
    patience: int = Field(
        20,
        ge=1,
        description="stop after this many epochs without a better validation loss",
        json_schema_extra=RESUMABLE,
    )
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of a moving average of the weights, which is evaluated and kept instead; 0 is none",
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="number format of the network's products in training; the weights stay float32",
    )
    tensorboard: bool = Field(
        False,
        description="also write the metrics for TensorBoard (needs the extra tensorboard)",
        json_schema_extra=RESUMABLE,
    )
    gradient_norms: bool = Field(
        False,
        description="measure the gradient's norm of each layer, and of each step of the sequence, epoch by epoch",
        json_schema_extra=RESUMABLE,
    )
    checkpoint_epochs: int = Field(
        0,
        ge=0,
        description="epochs between checkpoints, in addition to those by time; 0 is none",
        json_schema_extra=RESUMABLE,
    )
    checkpoint_keep: int = Field(
        2, ge=2, le=1000, description="number of checkpoints that are kept", json_schema_extra=RESUMABLE
    )
    checkpoint_seconds: float = Field(
        60.0,
        ge=0,
        description="seconds between checkpoints, written between steps",
        json_schema_extra=RESUMABLE,
    )
    threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="threads per rank; 0 takes the cores the rank may use, one for small work, and is recorded",
    )

    @field_validator("ridge_penalties", "speeds")
    @classmethod
    def _positive(cls, values: list[float]) -> list[float]:
        return positive_entries(values)

    @field_validator("span")
    @classmethod
    def _odd(cls, span: int) -> int:
        if span % 2 == 0:
            raise ValueError("must be odd: a kernel has a middle")
        return span

    # Sections come last: in TOML, a key behind one would be taken for a part of it.
    extractor: ExtractorSection = Field(default_factory=ExtractorSection, description="what reads the samples (eq. 8)")
    augment: AugmentSection = Field(default_factory=AugmentSection, description="random changes of training images")

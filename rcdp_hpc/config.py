"""Every setting of a run: its key, type, default, bounds and one-line meaning, in this one place.

A configuration is a TOML file of sections, or the name of a shipped profile, changed by ``--set
section.key=value``. The resolved configuration of a run lies in ``RUN/config.toml``.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rcdp_hpc.errors import InputError

STAGES = ("prepare", "search", "train", "evaluate")
STEPWISE = ("lstm", "gru", "transformer", "convolution")
READOUTS = ("network", "ridge", *STEPWISE)
EXTRACTORS = ("none", "dictionary", "convolution")
MAY_CHANGE: dict[str, Any] = {"may_change": True}


class Section(BaseModel):
    """A section of the configuration: unknown keys are refused, values are checked when set."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)


class RunSection(Section):
    """Settings of the run as a whole."""

    seed: int = Field(1, ge=0, lt=2**31, description="seed of the split, the balancing, the search and the training")
    stall_seconds: int = Field(
        600,
        ge=10,
        description="Horovod ends the job when a rank misses a collective for so long",
        json_schema_extra=MAY_CHANGE,
    )
    progress: bool = Field(True, description="show progress on rank 0", json_schema_extra=MAY_CHANGE)


class DataSection(Section):
    """Where the samples come from, how they are split, balanced and sharded."""

    seed: int = Field(-1, ge=-1, lt=2**31, description="seed of the split and the balancing; -1 takes run.seed")
    source: Literal[
        "digits", "mnist", "npz", "npy", "cifar10", "cifar100", "csv", "parquet", "hdf5", "ts", "image_folder"
    ] = Field(
        "digits",
        description="kind of source: digits, mnist (IDX files), npz, npy, cifar10, cifar100, csv, parquet, hdf5, ts "
        "or image_folder",
    )
    path: str = Field("", description="file or folder of the source (digits needs none)", json_schema_extra=MAY_CHANGE)
    test_path: str = Field(
        "",
        description="file or folder of the test set, where it is one of its own (csv, parquet, ts, image_folder)",
        json_schema_extra=MAY_CHANGE,
    )
    label_column: str = Field("label", description="column of the labels (csv, parquet)")
    group_column: str = Field(
        "", description="column that tells which rows form one sequence (csv, parquet); empty: each row is a sample"
    )
    time_column: str = Field(
        "", description="column by which the rows of a group are ordered (csv, parquet); empty: their order in the file"
    )
    category_columns: list[str] = Field(
        default_factory=list, description="columns that hold categories, turned into numbers (csv, parquet)"
    )
    drop_columns: list[str] = Field(default_factory=list, description="columns that are not read (csv, parquet)")
    x_name: str = Field("x", description="dataset of the samples (hdf5)")
    y_name: str = Field("y", description="dataset of the labels (hdf5)")
    x_test_name: str = Field("", description="dataset of the test samples (hdf5); empty: no test set of its own")
    y_test_name: str = Field("", description="dataset of the test labels (hdf5)")
    coarse_labels: bool = Field(False, description="take the 20 coarse classes instead of the 100 fine ones (cifar100)")
    image_size: list[int] = Field(
        default_factory=lambda: [64, 64],
        min_length=2,
        max_length=2,
        description="height and width that images are resized and cropped to (image_folder)",
    )
    image_channels: Literal[1, 3] = Field(3, description="1 for grey images, 3 for colour (image_folder)")
    corrupt_images: Literal["fail", "skip"] = Field(
        "fail", description="what a corrupt image does: fail, or skip it and say so (image_folder)"
    )
    keep: list[float] = Field(
        default_factory=list,
        description="share of each class's training samples kept, to make a set uneven on purpose; empty keeps all",
    )
    validation_fraction: float = Field(
        0.1, gt=0, lt=0.9, description="share of the training data held out for validation"
    )
    test_fraction: float = Field(
        0.2, gt=0, lt=0.9, description="share held out for the test, where the source has no test set of its own"
    )
    folds: int = Field(
        0,
        ge=0,
        le=1000,
        description="folds that cross-validation deals the training data to, instead of a test part; 0 is none",
    )
    fold: int = Field(
        0,
        ge=0,
        le=1000,
        description="the fold, from 1, that is held out as the test; rcdp crossvalidate takes each",
    )
    balance: Literal[
        "smote",
        "borderline_smote",
        "svm_smote",
        "adasyn",
        "kmeans_smote",
        "smotenc",
        "smote_tomek",
        "smote_enn",
        "random_over",
        "random_under",
        "none",
    ] = Field("smote", description="how the training part is balanced")
    balance_ratio: float = Field(
        1.0, gt=0, le=1, description="smallest class over largest that balancing aims at; 1 makes all classes equal"
    )
    balance_counts: list[int] = Field(
        default_factory=list,
        description="training rows each class shall have, in class order, 0 leaves a class as it is; "
        "empty: as balance_ratio says",
    )
    smote_neighbours: int = Field(7, ge=1, le=1000, description="nearest neighbours k of SMOTE (paper: 7)")
    memory_budget: int = Field(
        4096,
        ge=1,
        le=2**30,
        description="MiB of samples that preparation may hold at once; what is larger is streamed",
        json_schema_extra=MAY_CHANGE,
    )
    reserve: float = Field(
        0.0,
        ge=0,
        le=1,
        description="synthetic rows kept aside for each class, as a share of its training rows, to refill what damaged "
        "shards lose; 0 keeps none",
    )
    storage: Literal["auto", "float32", "float16", "uint8"] = Field(
        "auto", description="number format of samples in the shards; auto: uint8 where the source has it, or float32"
    )
    compression: Literal["none", "lzf", "gzip", "fastest"] = Field(
        "none",
        description="compression of the samples in the shards; fastest takes lzf or gzip, whichever is read back "
        "faster where the shards lie",
    )
    shards: int = Field(16, ge=1, le=100_000, description="shards written of the training part")
    verify_on_read: bool = Field(
        True, description="check each shard's checksum before its rows are used", json_schema_extra=MAY_CHANGE
    )
    stage_in: bool = Field(
        False,
        description="copy the shards that a node's ranks read in training to its $TMPDIR first, and read them there",
        json_schema_extra=MAY_CHANGE,
    )
    on_damage: Literal["fail", "replace"] = Field(
        "fail",
        description="what a damaged training shard does to training: fail, or replace its rows from the reserve",
        json_schema_extra=MAY_CHANGE,
    )

    @model_validator(mode="after")
    def _dealt(self) -> DataSection:
        if self.folds == 1:
            raise ValueError("data.folds = 1 leaves nothing to train on: take 2 or more, or 0 for no cross-validation")
        if self.fold > self.folds:
            raise ValueError(f"data.fold = {self.fold} is none of data.folds = {self.folds}, which count from 1")
        return self


class ReservoirSection(Section):
    """The fixed random recurrent network (eq. 3 and 9)."""

    kind: Literal["random", "none"] = Field(
        "random", description="the fixed random network, or none: the readout then reads the cut input itself"
    )
    nodes: int = Field(1000, ge=1, le=100_000, description="reservoir neurons n (paper: 1000)")
    density: float = Field(0.1, gt=0, le=1, description="connection density p (paper: 0.1)")
    scaling: Literal["spectral_radius", "weight_scale"] = Field(
        "spectral_radius", description="which of the next two keys sets the size of the recurrent weights"
    )
    spectral_radius: float = Field(0.9, gt=0, le=10, description="largest eigenvalue modulus rho of C (paper: 0.9)")
    weight_scale: float = Field(
        0.1, gt=0, le=10, description="recurrent weights are uniform in [-w, w] (with scaling = weight_scale)"
    )
    input_scaling: float = Field(1.0, gt=0, le=100, description="input weights are uniform in [-s, s]")
    bias_scaling: float = Field(0.1, ge=0, le=100, description="biases are uniform in [-s, s]")
    leak: float = Field(1.0, gt=0, le=1, description="leak rate a of eq. 9 (paper: 1)")
    activation: Literal["tanh", "sigmoid", "relu", "identity"] = Field(
        "tanh", description="activation f of eq. 9 (paper: sigmoid in Table 2, tanh in eq. 9)"
    )
    topology: Literal["random", "ring", "small-world", "cycle-jumps"] = Field(
        "random", description="which neurons are connected; ring and cycle-jumps have no use for the density"
    )
    rewiring: float = Field(0.1, ge=0, le=1, description="share of connections led elsewhere (small-world)")
    jump: int = Field(10, ge=2, le=100_000, description="neurons that a jump passes over (cycle-jumps)")
    weights: Literal["uniform", "normal", "bernoulli", "orthogonal"] = Field(
        "uniform", description="distribution of the recurrent weights before they are scaled"
    )
    input_weights: Literal["uniform", "normal", "bernoulli"] = Field(
        "uniform", description="distribution of the input weights before they are scaled"
    )
    input_density: float = Field(1.0, gt=0, le=1, description="share of the input connections that exist")
    feature_scaling: list[float] = Field(
        default_factory=list,
        max_length=100_000,
        description="factor on input_scaling for each feature of a step; empty takes 1 for all",
    )
    matrices: str = Field(
        "",
        description="npz file with matrices of the user's (recurrent, input, bias), taken instead of drawn ones; the "
        "run keeps a copy",
        json_schema_extra=MAY_CHANGE,
    )
    layers: int = Field(1, ge=1, le=100, description="reservoirs stacked, each driven by the states of the one below")
    scans: list[Literal["forward", "backward", "rows", "columns", "rows-backward", "columns-backward"]] = Field(
        default_factory=list,
        max_length=100,
        description="reservoirs side by side, one per reading of the sequence (rows and columns: the halves of "
        "sequence = both); empty is one, forward",
    )
    window: int = Field(1, ge=1, le=1000, description="steps that a neuron sees at once: this one and those before it")
    bidirectional: bool = Field(
        False, description="drive each reservoir a second time, from the last step to the first"
    )
    noise: float = Field(
        0.0, ge=0, le=100, description="deviation of normal noise inside f, on the training samples only; 0 has none"
    )
    sequence: Literal["rows", "columns", "both", "patches", "windows", "channels", "pixels"] = Field(
        "rows",
        description="how a sample is cut into a sequence: by rows (the steps of a series), columns, both at once, "
        "patches, windows of steps, channels or pixels; docs/cutting.md has the shapes",
    )
    piece_size: list[int] = Field(
        default_factory=list,
        max_length=2,
        description="[height, width] of a patch, or [steps] of a window (sequence = patches or windows)",
    )
    piece_stride: list[int] = Field(
        default_factory=list,
        max_length=2,
        description="how far apart patches or windows begin, as piece_size; empty: side by side, without overlap",
    )
    piece_edge: Literal["refuse", "drop"] = Field(
        "refuse", description="what becomes of rows, columns or steps behind the last whole patch or window"
    )
    reduction: Literal["states", "all", "mean", "mean_std"] = Field(
        "states",
        description="what is kept of the states: some of them, all, their mean, or mean and standard deviation",
    )
    states: int = Field(
        1, ge=1, le=1000, description="states kept per sample, equally spaced in time, the last one included"
    )
    steps: list[int] = Field(
        default_factory=list,
        max_length=1000,
        description="steps whose states are kept, from 0 or, below 0, from the end; empty keeps equally spaced ones",
    )
    warm_up: int = Field(0, ge=0, le=1_000_000, description="first steps that no kept state or mean is taken from")
    seed: int = Field(1, ge=0, lt=2**31, description="seed of every random matrix of the reservoir")
    kernel: Literal["auto", "dense-fp32", "dense-bf16", "dense-fp16", "fused-bf16", "sparse-fp32"] = Field(
        "auto", description="how states are computed; auto measures once and records its choice in RUN/config.toml"
    )
    batch_rows: int = Field(
        512,
        ge=0,
        le=1_000_000,
        description="samples whose states are computed at once, also the row block of Gram sums; 0 measures once and "
        "records",
    )

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
    def _fitting(self) -> ReservoirSection:
        halves = [scan for scan in self.scans if scan.startswith(("rows", "columns"))]
        if halves and self.sequence != "both":
            raise ValueError(f"reservoir.scans: {halves[0]} is a half of reservoir.sequence = 'both': set that")
        if self.weights == "orthogonal" and self.topology != "random":
            raise ValueError("reservoir.weights = 'orthogonal' needs reservoir.topology = 'random'")
        if self.steps and self.reduction != "states":
            raise ValueError("reservoir.steps needs reservoir.reduction = 'states'")
        if self.warm_up and self.reduction == "all":
            raise ValueError("reservoir.reduction = 'all' keeps every state: set reservoir.warm_up = 0")
        if self.matrices and (self.layers > 1 or len(self.scans) > 1):
            raise ValueError("reservoir.matrices holds one reservoir: set reservoir.layers = 1 and one scan")
        return self


class RangeSection(Section):
    """One dimension of the search space: two bounds, or a list of choices."""

    low: float | None = Field(None, description="lower bound")
    high: float | None = Field(None, description="upper bound")
    log: bool = Field(False, description="search on a logarithmic scale")
    integer: bool = Field(False, description="round to whole numbers")
    choices: list[float | str] | None = Field(None, description="the values to choose from, instead of bounds")
    start: float | str | None = Field(None, description="value of the first candidate; left out, it is drawn")

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

    optimizer: Literal["mfo", "woa", "avoa", "pso", "ga", "random", "sobol"] = Field(
        "mfo",
        description="what proposes candidates: moth-flame (paper), whale, African vultures, particle swarm, genetic",
    )
    improvements: list[Literal["opposition", "levy", "restart"]] = Field(
        default_factory=list, description="changes to moth-flame that are not part of the published algorithm"
    )
    population: int = Field(50, ge=2, le=100_000, description="candidates per generation, moths N (paper: 50)")
    generations: int = Field(100, ge=0, le=100_000, description="generations T (paper: 100); 0 skips the search")
    fitness: Literal["eq5", "accuracy"] = Field(
        "eq5", description="what is maximised: eq. 5 or the validation accuracy"
    )
    density_weight: float = Field(0.0, ge=0, description="lambda of eq. 5; 0 switches its density term off")
    density_target: float = Field(0.1, ge=0, le=1, description="p_target of eq. 5")
    evaluation: Literal["ridge", "train", "function"] = Field(
        "ridge",
        description="how a candidate is judged: readout solved by ridge, or trained briefly, or by your own function",
    )
    function: str = Field(
        "", description="your own fitness as module:function (evaluation = function); docs/search.md has its contract"
    )
    folds: int = Field(
        1, ge=1, le=100, description="folds of cross-validation within the fitness, each balanced by itself; 1 is none"
    )
    halving: int = Field(
        1,
        ge=1,
        le=10,
        description="judge a generation by few rows first, the best n-th by n times as many, and so on; 1 is off",
    )
    halving_steps: int = Field(2, ge=1, le=5, description="how often before all rows are reached (halving above 1)")
    ridge_penalty: float = Field(1e-4, gt=0, description="ridge penalty per training row")
    epochs: int = Field(3, ge=1, description="epochs of training per candidate (evaluation = train)")
    train_rows: int = Field(5000, ge=1, description="training rows that a candidate is fitted to (at most)")
    validation_rows: int = Field(2000, ge=1, description="validation rows that a candidate is judged by (at most)")
    threads: int = Field(
        1,
        ge=1,
        le=1024,
        description="threads per candidate; a part of the result's last digits, whatever the number of ranks",
    )
    device: Literal["cpu", "gpu"] = Field(
        "cpu", description="where a candidate's states are computed: by the CPU, or by the GPU of its rank"
    )
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
        json_schema_extra=MAY_CHANGE,
    )
    stop_seconds: float = Field(
        0.0, ge=0, description="end the search within so many seconds; 0 is no limit", json_schema_extra=MAY_CHANGE
    )
    stop_evaluations: int = Field(
        0, ge=0, description="end after so many evaluations; 0 is no limit", json_schema_extra=MAY_CHANGE
    )
    stop_stagnation: int = Field(
        0,
        ge=0,
        description="end after so many generations without a better candidate; 0 is never",
        json_schema_extra=MAY_CHANGE,
    )
    candidate_seconds: float = Field(
        0.0,
        ge=0,
        description="a candidate that takes longer fails, and one that hangs ends the job; 0 is no limit",
        json_schema_extra=MAY_CHANGE,
    )
    candidate_memory: int = Field(
        0,
        ge=0,
        description="MiB a candidate may need by estimate; 0 is the machine's or the job's limit over its ranks",
        json_schema_extra=MAY_CHANGE,
    )
    space: SpaceSection = Field(default_factory=SpaceSection, description="bounds of each searched value")


def known_part(name: str, known: Iterable[str]) -> str:
    """Return the name of a network's part, which is a known one or module:Class."""
    if name in known or all(name.partition(":")):
        return name
    raise ValueError(f"expected {', '.join(known)}, or a class of your own as module:Class")


class ExtractorSection(Section):
    """What turns a sample into the sequence that drives the reservoir (eq. 8)."""

    kind: str = Field(
        "none",
        description="none: the sample as reservoir.sequence cuts it; dictionary: the map of patches learned without "
        "labels and then fixed; convolution: a trained map; or a class of your own as module:Class, trained too "
        "(docs/networks.md has its contract)",
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
        description="what a step of the reservoir is: a row of the map, or one of its positions (dictionary, "
        "convolution)",
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
        0.5, ge=0, le=100, description="how far a patch must lie along an atom to count (dictionary)"
    )
    learning: Literal["kmeans", "patches"] = Field(
        "kmeans", description="atoms by k-means on the sphere, or random patches as they are (dictionary)"
    )
    patches: int = Field(
        100_000,
        ge=1,
        le=2_000_000,
        description="patches of training rows that the dictionary is learned from (dictionary)",
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="number format of the products with the atoms (dictionary)"
    )

    @property
    def trained(self) -> bool:
        """Whether the extractor is trained, so that states change from step to step and are not kept."""
        return self.kind not in ("none", "dictionary")

    @field_validator("kind")
    @classmethod
    def _known(cls, name: str) -> str:
        return known_part(name, EXTRACTORS)


class AugmentSection(Section):
    """Random changes of the training samples, where the extractor is trained."""

    crop: int = Field(0, ge=0, le=1000, description="images are shifted by up to so many pixels, each way")
    edges: Literal["zero", "reflect"] = Field(
        "zero", description="what a shift brings in: the mean, or the image mirrored at its edge"
    )
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
        0, ge=0, le=1000, description="and over images moved by so many pixels up and left, and down and right"
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

    readout: str = Field(
        "network",
        description="the readout: the network of eq. 10 and 11, a linear one solved by ridge, or one that reads the "
        "kept states step by step: lstm, gru, transformer, convolution; or a class of your own as module:Class "
        "(docs/networks.md has its contract)",
    )
    readout_layers: int = Field(1, ge=1, le=100, description="layers of a readout that reads step by step")
    heads: int = Field(4, ge=1, le=1000, description="attention heads, a divisor of outputs (readout = transformer)")
    span: int = Field(3, ge=1, le=999, description="steps that a kernel spans, odd (readout = convolution)")
    ridge_penalties: list[float] = Field(
        default_factory=lambda: [1e-6, 1e-5, 1e-4, 1e-3, 1e-2],
        min_length=1,
        max_length=100,
        description="ridge penalties per training row; the best on validation is taken",
    )
    ridge_precision: Literal["double", "single"] = Field(
        "single", description="precision of the products behind the ridge sums, which are float64 themselves"
    )
    shifts: int = Field(
        0,
        ge=0,
        le=100,
        description="training images count once more for every shift of so many pixels in all, down and across: 1 "
        "makes 5 of each, 2 makes 13 (readout = ridge)",
    )
    baseline: bool = Field(
        True, description="solve a ridge readout on the same states too, to compare the network with"
    )
    warm_start: bool = Field(False, description="start the network from the ridge readout")
    loss: Literal["cross_entropy", "focal", "eq12"] = Field(
        "cross_entropy", description="loss: cross-entropy, focal, or eq. 12"
    )
    focal_gamma: float = Field(2.0, ge=0, le=10, description="how little well-predicted rows count (loss = focal)")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the target that is spread evenly over all classes"
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none",
        description="weight of a row in the loss: 1, or so that all classes count alike, which may stand in for "
        "data.balance",
    )
    l1: float = Field(0.0, ge=0, le=1, description="L1 penalty on weight matrices; with l2 it is the elastic net")
    l2: float = Field(0.0, ge=0, le=1, description="L2 penalty on weight matrices, in the loss for any optimizer")
    epochs: int = Field(250, ge=1, description="epochs at most (paper: 250)", json_schema_extra=MAY_CHANGE)
    batch: int = Field(64, ge=1, description="samples per rank and step (paper: 64)")
    global_batch: int = Field(
        0, ge=0, description="samples per step over all ranks, whatever their number; 0 is batch times the ranks"
    )
    optimizer: Literal["adam", "adamw", "sgd", "lamb", "muon"] = Field(
        "adam",
        description="optimiser: Adam (paper), AdamW, SGD with momentum, LAMB for very large batches, or Muon, which "
        "takes few epochs",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD and of Muon")
    nesterov: bool = Field(False, description="Nesterov's momentum (optimizer = sgd)")
    learning_rate: float = Field(1e-3, gt=0, le=10, description="highest learning rate (paper: 0.001)")
    rate_scaling: Literal["none", "sqrt", "linear"] = Field(
        "none",
        description="factor of the learning rate: 1, the root of the number of ranks, or that number",
    )
    schedule: Literal["constant", "step", "cosine", "one_cycle", "plateau"] = Field(
        "constant",
        description="learning rate over time: constant, falling in steps, on half a cosine to 0, rising and falling "
        "once, or falling when the validation loss no longer does",
    )
    schedule_epochs: int = Field(
        10, ge=1, description="epochs between falls (schedule = step), or without a better validation loss (plateau)"
    )
    schedule_factor: float = Field(0.1, gt=0, lt=1, description="what a fall multiplies the rate by (step, plateau)")
    warmup_epochs: float = Field(0.0, ge=0, description="epochs in which the learning rate rises from near 0")
    warmup_steps: int = Field(0, ge=0, description="the same in steps")
    on_nan: Literal["stop", "skip"] = Field(
        "stop",
        description="what a gradient that is not finite does: stop, or leave the step out and halve the learning rate",
        json_schema_extra=MAY_CHANGE,
    )
    accumulate: int = Field(
        1, ge=1, le=10_000, description="batches whose gradients are added up for one update of the weights"
    )
    local_steps: int = Field(
        1, ge=1, description="steps that ranks take by themselves before weights are averaged (local SGD); 1 is none"
    )
    slices: Literal["together", "averaged", "ensemble"] = Field(
        "together",
        description="what ranks do: train one network together, or each its own on its rows, whose weights are "
        "averaged, or whose scores are (ensemble)",
    )
    compression: Literal["none", "fp16"] = Field(
        "none", description="number format of gradients on their way between ranks"
    )
    deterministic: bool = Field(
        True, description="the same ranks give the same bits; false lets Horovod send gradients as they come"
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
        "kernel", description="number format that states are kept in: the kernel's own, or one of 16 bits"
    )
    cache_memory: int = Field(
        0,
        ge=0,
        le=2**30,
        description="MiB of states that a rank may keep; 0 is its share of the machine's or the job's memory",
        json_schema_extra=MAY_CHANGE,
    )
    slabs: int = Field(12, ge=1, le=100_000, description="canonical slabs V that the training rows are cut into")
    recut_epochs: int = Field(
        0, ge=0, description="epochs after which the rows are dealt to the slabs anew, as the paper does; 0 is never"
    )
    allotment: Literal["equal", "speeds", "measured"] = Field(
        "equal",
        description="slabs per rank: equally many, by the key speeds, or by speeds measured at the start",
        json_schema_extra=MAY_CHANGE,
    )
    speeds: list[float] = Field(
        default_factory=list,
        max_length=1_000_000,
        description="relative speed of each rank, in order (allotment = speeds)",
        json_schema_extra=MAY_CHANGE,
    )
    loss_target: float = Field(
        1e-5, ge=0, description="stop when the training loss falls below it (paper: 1e-5)", json_schema_extra=MAY_CHANGE
    )
    patience: int = Field(
        20, ge=1, description="stop after so many epochs without a better validation loss", json_schema_extra=MAY_CHANGE
    )
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay of a moving average of the weights, judged and kept instead; 0 is none"
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="number format of the network's products in training; the weights stay float32; fp16, for GPUs "
        "alone, scales the gradients",
    )
    tensorboard: bool = Field(
        False, description="write the metrics for TensorBoard, too (an extra of its own)", json_schema_extra=MAY_CHANGE
    )
    gradient_norms: bool = Field(
        False,
        description="measure the gradient's norm of each layer, and of each step of the sequence, epoch by epoch",
        json_schema_extra=MAY_CHANGE,
    )
    checkpoint_epochs: int = Field(
        0, ge=0, description="epochs between checkpoints, beside those by time; 0 is none", json_schema_extra=MAY_CHANGE
    )
    checkpoint_keep: int = Field(
        2, ge=2, le=1000, description="how many of the last checkpoints are kept", json_schema_extra=MAY_CHANGE
    )
    checkpoint_seconds: float = Field(
        60.0,
        ge=0,
        description="seconds between checkpoints, written between steps",
        json_schema_extra=MAY_CHANGE,
    )
    threads: int = Field(
        0, ge=0, le=1024, description="threads per rank; 0 takes the cores the rank may use, and is recorded"
    )

    @field_validator("readout")
    @classmethod
    def _known(cls, name: str) -> str:
        return known_part(name, READOUTS)

    # Sections come last: in TOML, a key behind one would be taken for a part of it.
    extractor: ExtractorSection = Field(default_factory=ExtractorSection, description="what reads the samples (eq. 8)")
    augment: AugmentSection = Field(default_factory=AugmentSection, description="random changes of training images")


class Config(Section):
    """All settings of a run."""

    run: RunSection = Field(default_factory=RunSection)
    data: DataSection = Field(default_factory=DataSection)
    reservoir: ReservoirSection = Field(default_factory=ReservoirSection)
    search: SearchSection = Field(default_factory=SearchSection)
    training: TrainingSection = Field(default_factory=TrainingSection)

    @property
    def shard_seed(self) -> int:
        """The seed that the shards are made with."""
        return self.run.seed if self.data.seed < 0 else self.data.seed

    @property
    def has_search(self) -> bool:
        """Whether there is a reservoir to search for, and a generation to do it in."""
        return self.search.generations > 0 and self.reservoir.kind != "none"

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        space = self.search.space
        if space.spectral_radius is not None and self.reservoir.scaling != "spectral_radius":
            raise ValueError("search.space.spectral_radius needs reservoir.scaling = 'spectral_radius'")
        if min(self.training.ridge_penalties) <= 0:
            raise ValueError("training.ridge_penalties: every penalty must be above 0")
        if min(self.training.speeds, default=1.0) <= 0:
            raise ValueError("training.speeds: every speed must be above 0")
        if self.training.warm_start and not self.training.baseline:
            raise ValueError("training.warm_start needs training.baseline = true")
        self._check_readout()
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
        return self

    def _check_ranks(self) -> None:
        training, apart = self.training, self.training.slices != "together"
        if apart and (training.local_steps > 1 or training.recut_epochs or training.ema):
            raise ValueError(
                f"training.slices = {training.slices!r} trains networks apart, each on its own rows to the end: set "
                "training.local_steps = 1, training.recut_epochs = 0 and training.ema = 0"
            )
        if training.slices == "ensemble" and training.augment.test_flips:
            raise ValueError("training.augment.test_flips is for one network: set training.slices to another value")
        way_out = "needs training.local_steps = 1 and training.slices = 'together': ranks on their own"
        if (apart or training.local_steps > 1) and training.precision == "fp16":
            raise ValueError(
                f"training.precision = 'fp16' {way_out} would scale their gradients differently. Take 'bf16'"
            )
        if (apart or training.local_steps > 1) and training.on_nan == "skip":
            raise ValueError(f"training.on_nan = 'skip' {way_out} cannot agree")

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
        if training.extractor.trained and training.readout == "ridge":
            raise ValueError(f"training.extractor.kind = {kind!r} is trained and needs a readout that is: not 'ridge'")
        if reservoir.matrices or any(scan not in ("forward", "backward") for scan in reservoir.scans):
            raise ValueError(
                f"training.extractor.kind = {kind!r} makes the sequences: leave out reservoir.matrices, and rows and "
                "columns of reservoir.scans"
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
        several = reservoir.reduction == "all" or max(reservoir.states, len(reservoir.steps)) > 1
        sequence = reservoir.kind == "none" or (reservoir.reduction in ("states", "all") and several)
        if training.readout in STEPWISE and not sequence:
            raise ValueError(
                f"training.readout = {training.readout!r} reads states step by step, and one of them alone is no "
                "sequence: set reservoir.reduction = 'all', or reservoir.states to 2 or more"
            )


def profile_names() -> list[str]:
    """Return the names of the shipped profiles."""
    folder = resources.files("rcdp_hpc") / "configs"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_config(name: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a configuration file or shipped profile and apply ``section.key=value`` overrides.

    Parameters
    ----------
    name : str or Path
        Path of a TOML file, or the name of a shipped profile.
    overrides : iterable of str
        Settings of the form ``section.key=value``, the value in TOML or a bare string.

    Returns
    -------
    Config
        The checked configuration.

    Raises
    ------
    InputError
        If the file cannot be read, or a key or value in it is not accepted.
    """
    tree = _read_toml(name)
    for override in overrides:
        _apply_override(tree, override)
    return parse_config(tree, where=str(name))


def parse_config(tree: Mapping[str, Any], where: str) -> Config:
    """Check a tree of settings; `where` names its origin in the message of an `InputError`."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(dict(problem)) for problem in error.errors()]
        raise InputError(f"configuration {where}: " + "; ".join(lines)) from None


def to_tree(config: Config) -> dict[str, Any]:
    """Return the settings as nested plain dicts, keys without a value left out."""
    return config.model_dump(exclude_none=True)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one dict with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def may_change(key: str) -> bool:
    """Tell whether the value of a dotted key may differ when a stage is resumed."""
    for name, field in _fields():
        if name == key or key.startswith(name + "."):
            extra = field.json_schema_extra
            return isinstance(extra, dict) and bool(extra.get("may_change"))
    return False


def differing_keys(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Return the dotted keys of two settings trees whose values differ, sorted."""
    old, new = flatten(recorded), flatten(current)
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))


def refuse_other_settings(where: str, recorded: Mapping[str, Any], current: Mapping[str, Any], section: str) -> None:
    """Raise an `InputError` where results were made with other settings than the present ones.

    Keys that may change on resume are let through.

    Parameters
    ----------
    where : str
        What recorded the settings, for the message.
    recorded, current : mapping
        Settings trees.
    section : str
        The section whose keys that may change are named in the message.
    """
    fixed = [key for key in differing_keys(recorded, current) if not may_change(key)]
    if not fixed:
        return
    old, new = flatten(recorded), flatten(current)
    changes = ", ".join(f"{key} ({old.get(key, 'not set')} -> {new.get(key, 'not set')})" for key in fixed)
    free = [key for key in known_keys() if key.startswith(f"{section}.") and may_change(key)]
    hint = f" Of this section only {', '.join(free)} may change on resume." if free else ""
    raise InputError(
        f"{where} was made with other settings: {changes}.{hint} Set them back, choose another --out, or start this "
        "stage over with --restart, which puts the earlier results aside."
    )


def settings_that_matter(config: Config, sections: Iterable[str]) -> dict[str, Any]:
    """Return sections of the configuration without the keys that may change when a stage is resumed."""
    tree = to_tree(config)
    return {
        section: {key: value for key, value in tree[section].items() if not may_change(f"{section}.{key}")}
        for section in sections
    }


def commented_toml(config: Config) -> str:
    """Return the configuration as TOML with the meaning and bounds of every key beside it."""
    document = tomlkit.document()
    document.add(
        tomlkit.comment("Configuration of rcdp_hpc. Every key with its meaning; a key left out takes its default.")
    )
    for name in Config.model_fields:
        section = getattr(config, name)
        document.add(tomlkit.nl())
        document.add(name, _commented_table(section))
    return tomlkit.dumps(document)


def _commented_table(section: Section) -> Any:
    table = tomlkit.table()
    table.add(tomlkit.comment((type(section).__doc__ or "").strip().splitlines()[0]))
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if isinstance(value, Section) and not isinstance(value, RangeSection):
            table.add(tomlkit.nl())
            table.add(key, _commented_table(value))
            continue
        table.add(tomlkit.comment(f"{field.description}{_bounds_text(field)}"))
        if value is None:
            table.add(tomlkit.comment(f"{key} = {{ low = ..., high = ... }}"))
        elif isinstance(value, RangeSection):
            table.add(key, tomlkit.inline_table())
            table[key].update(value.model_dump(exclude_none=True))
        else:
            table.add(key, value)
    return table


def _bounds_text(field: Any) -> str:
    words = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    parts = [
        f"{sign} {getattr(rule, name)}"
        for rule in field.metadata
        for name, sign in words.items()
        if getattr(rule, name, None) is not None
    ]
    return f" ({', '.join(parts)})" if parts else ""


def _fields(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _fields(annotation, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", field


def known_keys() -> list[str]:
    """Return every dotted key of the configuration."""
    return [name for name, _ in _fields()]


def _read_toml(name: str | Path) -> dict[str, Any]:
    path = Path(name)
    try:
        # A folder of data may well be named like a profile.
        if path.suffix == ".toml" or path.is_file():
            return tomllib.loads(path.read_text(encoding="utf-8"))
        profile = resources.files("rcdp_hpc") / "configs" / f"{name}.toml"
        return tomllib.loads(profile.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"configuration {name}: neither a TOML file nor a shipped profile ({', '.join(profile_names())})"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"configuration {name}: not valid TOML: {error}") from None
    except OSError as error:
        raise InputError(f"configuration {name}: cannot be read: {error.strerror}") from None


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or len(parts) < 2 or not all(parts):
        raise InputError(f"--set {override}: expected section.key=value, as in training.epochs=20")
    try:
        value = tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    node = tree
    for part in parts[:-1]:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise InputError(f"--set {override}: {part} is not a section")
        node = child
    node[parts[-1]] = value


def _explain(problem: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{key} is not a known key{_nearest(key)}"
    message = problem["msg"].removeprefix("Value error, ")
    if not key or message.startswith(f"{key}."):  # it names the key of a section that it is about
        return message
    return f"{key} = {problem.get('input')!r}: {message[0].lower()}{message[1:]}"


def _nearest(key: str) -> str:
    sections = [*Config.model_fields, "search.space"]
    close = difflib.get_close_matches(key, known_keys() + sections, n=1, cutoff=0.5)
    if not close:
        leaf = key.rpartition(".")[2]
        by_leaf = {name.rpartition(".")[2]: name for name in known_keys()}
        close = [by_leaf[match] for match in difflib.get_close_matches(leaf, by_leaf, n=1)]
    return f"; the nearest known one is {close[0]}" if close else ""

"""``[extractor]``: the part that turns a sample into the sequence that drives the reservoir."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from rcdp_hpc.config.choices import EXTRACTORS, MODEL_EXTRACTORS, UNREAD_MODEL, extractor_choice
from rcdp_hpc.config.section import PATH, RESUMABLE, Section, positive_entries

KernelInput = Literal["values", "differences", "standardised"]
KERNEL_INPUTS: tuple[KernelInput, ...] = ("values", "differences", "standardised")


class ExtractorSection(Section):
    """The extractor, which turns a sample into the sequence that drives the reservoir (eq. 8)."""

    kind: Annotated[str, AfterValidator(EXTRACTORS.accepted)] = Field(
        "none",
        description="the part that turns a sample into a sequence",
    )
    model: str = Field(
        "",
        description="model.pt, or the run directory of the model, with the trained extractor that is frozen; it is "
        "copied into the run directory",
        json_schema_extra=RESUMABLE | PATH,
    )
    model_kind: Annotated[str, AfterValidator(MODEL_EXTRACTORS.accepted)] = Field(
        UNREAD_MODEL,
        description="kind of the extractor in the model; set from the model, as are the keys of that kind",
    )
    model_shape: list[int] = Field(
        default_factory=list, description="shape of the samples of the model; set from the model"
    )
    model_sha256: str = Field("", description="SHA-256 of the model file; set from the model")
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
        description="side in pixels of the image patches that a first layer whitens; the layer is computed before the "
        "training, without labels; 0 is no such layer (convolution)",
    )
    sequence: Literal["rows", "positions"] = Field(
        "rows",
        description="the part of the map that is one step of the sequence (dictionary, convolution)",
    )
    patch: int = Field(6, ge=1, le=100, description="height and width of a patch in pixels (dictionary)")
    atoms: int = Field(
        256, ge=1, le=100_000, description="atoms of the dictionary; the map has twice as many channels (dictionary)"
    )
    stride: int = Field(1, ge=1, le=100, description="pixels between patches that are encoded (dictionary)")
    pool: int = Field(
        4,
        ge=1,
        le=100,
        description="rows and columns of the map: codes are averaged over pool x pool regions (dictionary)",
    )
    threshold: float = Field(
        0.5,
        ge=0,
        le=100,
        description="smallest projection of a patch on an atom that gives a code above 0 (dictionary)",
    )
    mirror: bool = Field(False, description="average the maps of an image and its mirror image (dictionary)")
    power: float = Field(
        1.0,
        gt=0,
        le=1,
        description="power to which averages of codes are raised; with 0.5 a few strong edges weigh less (dictionary)",
    )
    learning: Literal["kmeans", "patches"] = Field("kmeans", description="how the atoms are computed (dictionary)")
    patches: int = Field(
        100_000,
        ge=1,
        le=2_000_000,
        description="number of training patches that the dictionary is learned from (dictionary)",
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
        description="inputs of the kernels; the first one has twice the features of each other input (kernels)",
    )
    kernel_weights: list[float] = Field(
        default_factory=lambda: [0.1, 0.3, 1.0, 3.0],
        min_length=1,
        max_length=20,
        description="candidates for the weight of the kernels' features relative to the reservoir's states; the "
        "left-out error chooses one; with readout.ridge_selection = validation it is 1 (kernels, readout.kind = ridge)",
    )

    wavelet: Literal["haar", "db2", "db4"] = Field("db4", description="filter of the transform (wavelet_packets)")
    levels: int = Field(
        3,
        ge=1,
        le=16,
        description="levels of the transform, which gives 2^levels frequency bands (wavelet_packets)",
    )
    axis: Literal["rows", "steps"] = Field(
        "rows",
        description="direction of the transform: along each row of an image or table, or along the steps of a series "
        "for each feature (wavelet_packets)",
    )

    components: int = Field(
        16,
        ge=1,
        le=100_000,
        description="features of a step that are left (pca, random_projection, selection)",
    )
    over: Literal["steps", "sample"] = Field(
        "steps",
        description="what is reduced: the features of every step in the same way, or all values of a sample, which "
        "become one step (pca, random_projection, selection)",
    )
    fit_rows: int = Field(
        20_000,
        ge=2,
        le=10_000_000,
        description="number of training rows that the reduction is learned from (pca, selection)",
    )
    whiten: bool = Field(
        False, description="scale the components to mean 0 and standard deviation 1, as far as they vary (pca)"
    )
    projection: Literal["gaussian", "sparse"] = Field(
        "gaussian", description="distribution of the entries of the matrix (random_projection)"
    )
    method: Literal["greedy", "genetic"] = Field("greedy", description="how features are selected (selection)")

    @property
    def trained(self) -> bool:
        """Whether gradient steps train the extractor, so that states change and are not cached."""
        return extractor_choice(self.kind).trained

    @property
    def makes_sequences(self) -> bool:
        """Whether the extractor computes the sequences that drive the reservoir; otherwise samples are cut."""
        return extractor_choice(self.kind).makes_sequences

    @property
    def reads_sequences(self) -> bool:
        """Whether the extractor reads the sequences that ``reservoir.sequence`` cuts, and keeps their steps."""
        return extractor_choice(self.kind).reads_sequences and self.over == "steps"

    @property
    def joins_features(self) -> bool:
        """Whether the extractor appends features of the whole sample to the reservoir's states."""
        return extractor_choice(self.kind).joins_features

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

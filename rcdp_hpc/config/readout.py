"""``[readout]``: the part that turns states into class scores."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from rcdp_hpc.config.choices import READOUT_ACTIVATIONS, READOUTS, readout_choice
from rcdp_hpc.config.choices.chosen_by import ridge_criterion_accepted
from rcdp_hpc.config.section import Section, positive_entries


class ReadoutSection(Section):
    """The readout, which turns reservoir states into class scores (eq. 10 and 11)."""

    kind: Annotated[str, AfterValidator(READOUTS.accepted)] = Field(
        "network",
        description="the readout",
    )
    layers: int = Field(
        1, ge=1, le=100, description="number of layers; with kind = network of inner ReLU layers (w_2 of eq. 11)"
    )
    heads: int = Field(
        4, ge=1, le=1000, description="attention heads; readout.outputs must be a multiple of them (transformer)"
    )
    kernel_size: int = Field(
        3, ge=1, le=999, description="length of the convolution kernels in steps, odd (convolution)"
    )
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
        description="candidates for the ridge penalty, per row and standardised feature (ridge)",
    )
    ridge_selection: Literal["auto", "left_out", "validation"] = Field(
        "auto", description="rows by which the ridge penalty is chosen (ridge)"
    )
    ridge_criterion: Annotated[str, AfterValidator(ridge_criterion_accepted)] = Field(
        "squared_error",
        description="what is best on these rows, or on the held-out rows of a fold (ridge); of equal penalties the one "
        "with the least squared error",
    )
    ridge_precision: Literal["double", "single"] = Field(
        "single", description="precision of the products in the sums of ridge regression; the sums are float64 (ridge)"
    )
    keep_sums: bool = Field(
        False,
        description="keep the exact sums of each unit of the rows with the model, for rcdp merge, update and forget "
        "(ridge); a unit is a shard, or a match of data.unit_pattern",
    )
    without_units: list[str] = Field(
        default_factory=list,
        description="units whose rows are left out, as after rcdp forget (ridge with keep_sums)",
    )
    members: int = Field(
        1,
        ge=1,
        le=1000,
        description="readouts that are solved and whose scores are averaged (ridge, elm); candidates of a search are "
        "evaluated by one",
    )
    member_rows: Literal["all", "under_sampled"] = Field(
        "all",
        description="training rows of a member",
    )
    member_ratio: float = Field(
        1.0,
        gt=0,
        le=1,
        description="ratio of the smallest to the largest class in the rows of a member",
    )
    elm_penalty: float = Field(
        10.0,
        ge=1e-12,
        le=1e12,
        description="C of the layers: 1 / C is added to the sums of squares of their hidden values (elm)",
    )
    bands: Literal["joined", "separate"] = Field(
        "joined", description="machines for the frequency bands of the features (elm)"
    )
    warm_start: bool = Field(False, description="initialise the network with the ridge readout (network)")
    outputs: int = Field(128, ge=1, description="components of the reservoir output o (eq. 10)")
    hidden: int = Field(
        128,
        ge=1,
        description="width of the layers (network, eq. 11; elm), units (lstm, gru) or channels (others)",
    )
    activation: Annotated[str, AfterValidator(READOUT_ACTIVATIONS.accepted)] = Field(
        "relu", description="activation of the layers"
    )
    relu_slope: float = Field(
        0.0, ge=0, lt=1, description="slope of the ReLU below zero; 0 is the plain ReLU (network, elm)"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="fraction of hidden units that are dropped in training")

    @property
    def trained(self) -> bool:
        """Whether gradient steps train the readout; False if it is solved."""
        return readout_choice(self.kind).trained

    @property
    def autoencodes(self) -> bool:
        """Whether the readout has layers that are solved as autoencoders."""
        return "readout.elm_penalty" in readout_choice(self.kind).keys

    @property
    def stepwise(self) -> bool:
        """Whether the readout reads states step by step, so that it needs several of them."""
        return readout_choice(self.kind).stepwise

    @field_validator("ridge_penalties")
    @classmethod
    def _positive(cls, values: list[float]) -> list[float]:
        return positive_entries(values)

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, kernel_size: int) -> int:
        if kernel_size % 2 == 0:
            raise ValueError("must be odd, so that a kernel has a middle")
        return kernel_size

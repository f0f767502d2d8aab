"""``[pruning]``: weights that become zero during the training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rcdp_hpc.config.section import Section


class PruningSection(Section):
    """Weights that become exactly zero during the training, for a smaller model (`rcdp compress` sets these keys)."""

    method: Literal["magnitude", "l0"] = Field("magnitude", description="how the weights that remain are chosen")
    keep: float = Field(
        1.0, gt=0, le=1, description="share of the entries of the weight matrices that is left at the end; 1 is all"
    )
    epochs: int = Field(
        5,
        ge=0,
        description="epochs in which weights are removed; the remaining epochs train those that are left, and only "
        "their models count as the best",
    )
    every: int = Field(20, ge=1, le=1_000_000, description="steps between removals of weights")
    l0_penalty: float = Field(
        10.0,
        gt=0,
        le=1e6,
        description="penalty of the expected share of weights that are left: the higher, the fewer are left",
    )

    @property
    def active(self) -> bool:
        """Whether weights are removed."""
        return self.method == "l0" or self.keep < 1

"""``[compare]``: the cells of a comparison of methods."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from rcdp_hpc.config.choices.methods import METHODS
from rcdp_hpc.config.section import RESUMABLE, Section

Arm = Literal["rows", "extractor"]


def _each_once(values: list[int | str]) -> list[int | str]:
    """Return a list whose entries all differ."""
    repeated = [repr(value) for at, value in enumerate(values) if value in values[:at]]
    if repeated:
        raise ValueError(f"{repeated[0]} is given twice")
    return values


class CompareSection(Section):
    """The comparison of methods (`rcdp compare`); other commands do not use it."""

    methods: Annotated[list[str], AfterValidator(METHODS.all_accepted), AfterValidator(_each_once)] = Field(
        default_factory=list,
        max_length=100,
        description="methods to compare, the first against each other one; empty: all that the data can take",
    )
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], AfterValidator(_each_once)] = Field(
        default_factory=list,
        max_length=1000,
        description="seeds of split, search and training, one repetition of every method each; empty: run.seed alone",
    )
    folds: int = Field(
        0, ge=0, le=1000, description="folds of a cross-validation, instead of seeds; 0 repeats with seeds"
    )
    arms: Annotated[list[Arm], AfterValidator(_each_once)] = Field(
        default=["rows"], min_length=1, description="what the methods read"
    )
    seconds: float = Field(
        0.0,
        ge=0,
        description="also compare at equal time: seconds within which search and training of each cell end; 0 is off",
    )
    group_ranks: int = Field(
        1,
        ge=0,
        le=100_000,
        description="ranks that work on one cell together; 0: all ranks, one cell after another. With 1, the results "
        "do not depend on the number of ranks",
        json_schema_extra=RESUMABLE,
    )

    @field_validator("folds")
    @classmethod
    def _folds_to_train_on(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError("1 leaves nothing to train on: take 2 or more, or 0 for seeds")
        return folds

"""``[parallel]`` and ``[partition]``: how the ranks share the training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from rcdp_hpc.config.choices.engines import AUTO, ENGINES
from rcdp_hpc.config.section import RESUMABLE, Section, positive_entries


class HorovodSection(Section):
    """How Horovod sums gradients."""

    fusion_mib: int = Field(
        0,
        ge=0,
        le=4096,
        description="MiB of gradients in one message; 0 is Horovod's default (parallel.deterministic = false)",
    )
    cycle_ms: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="milliseconds between two sends; 0 is HOROVOD_CYCLE_TIME, or 0.2 (parallel.deterministic = false)",
    )
    hierarchical: bool = Field(
        False, description="sum gradients within each node first, then between nodes (GPUs, Horovod with NCCL)"
    )


class ParallelSection(Section):
    """What the ranks train together."""

    engine: Annotated[str, AfterValidator(ENGINES.accepted)] = Field(
        AUTO,
        description="library that sums gradients and batch statistics over ranks",
        json_schema_extra=RESUMABLE,
    )
    local_steps: int = Field(
        1,
        ge=1,
        description="steps between averages of the ranks' weights (local SGD); 1 averages gradients in every step",
    )
    replicas: Literal["synchronised", "averaged", "ensemble"] = Field(
        "synchronised",
        description="what the ranks train",
    )
    batch_statistics: Literal["all", "rank"] = Field(
        "all",
        description="rows whose statistics batch normalisations use in a training step",
    )
    compression: Literal["none", "fp16"] = Field(
        "none", description="number format in which gradients are sent between ranks"
    )
    deterministic: bool = Field(
        True,
        description="the same number of ranks gives bitwise the same result; false lets Horovod reorder sums",
    )
    horovod: HorovodSection = Field(default_factory=HorovodSection, description="how Horovod sums gradients")


class PartitionSection(Section):
    """How the training rows are divided among the ranks."""

    count: int = Field(
        12,
        ge=1,
        le=100_000,
        description="number of partitions V of the training rows, for any number of ranks",
    )
    reshuffle_every: int = Field(
        0,
        ge=0,
        description="epochs between redistributions of the rows over the partitions, as in the paper; 0 is never",
    )
    load_balance: Literal["equal", "rank_speeds", "measured"] = Field(
        "equal",
        description="how the partitions are assigned to the ranks",
        json_schema_extra=RESUMABLE,
    )
    rank_speeds: list[float] = Field(
        default_factory=list,
        max_length=1_000_000,
        description="relative speed of each rank, in order of rank",
        json_schema_extra=RESUMABLE,
    )

    @field_validator("rank_speeds")
    @classmethod
    def _positive(cls, values: list[float]) -> list[float]:
        return positive_entries(values)

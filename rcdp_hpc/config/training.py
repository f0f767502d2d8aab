"""``[training]``, ``[states]`` and ``[checkpoint]``: the course of the training and what it keeps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from rcdp_hpc.config.choices.chosen_by import training_criterion_accepted
from rcdp_hpc.config.section import PATH, RESUMABLE, Section


class TrainingSection(Section):
    """The data-parallel training of the network."""

    baseline: bool = Field(True, description="also fit a ridge readout to the same states, for comparison")
    tree_baseline: Literal["auto", "always", "never"] = Field(
        "auto",
        description="also fit scikit-learn's boosted trees to a table, for comparison",
        json_schema_extra=RESUMABLE,
    )
    initial: str = Field(
        "",
        description="model of the same architecture whose weights the training starts from: its run directory or "
        "model.pt; empty: random weights",
        json_schema_extra=PATH,
    )
    epochs: int = Field(250, ge=1, description="largest number of epochs (paper: 250)", json_schema_extra=RESUMABLE)
    batch: int = Field(64, ge=1, description="samples per rank and step (paper: 64)")
    global_batch: int = Field(
        0, ge=0, description="samples per step over all ranks; 0 is batch times the number of ranks"
    )
    on_nan: Literal["stop", "skip"] = Field(
        "stop",
        description="what happens when a gradient is not finite",
        json_schema_extra=RESUMABLE,
    )
    accumulate: int = Field(
        1, ge=1, le=10_000, description="batches whose gradients are summed for one update of the weights"
    )
    loss_target: float = Field(
        1e-5, ge=0, description="stop when the training loss falls below it (paper: 1e-5)", json_schema_extra=RESUMABLE
    )
    patience: int = Field(
        20,
        ge=1,
        description="stop after this many epochs without a lower validation loss or a better training.criterion",
        json_schema_extra=RESUMABLE,
    )
    criterion: Annotated[str, AfterValidator(training_criterion_accepted)] = Field(
        "loss",
        description="what is best on the validation rows: it chooses the epoch whose weights are kept; of equal "
        "epochs the one with the least validation loss",
    )
    stop_seconds: float = Field(
        0.0,
        ge=0,
        description="end the training after an epoch so that it takes at most this many seconds; 0 is no limit",
        json_schema_extra=RESUMABLE,
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="number format of the network's products in training; the weights stay float32",
    )
    weight_bits: Literal[32, 8] = Field(
        32,
        description="bits of a weight of the trained network; 8 trains with weights that are rounded in each forward "
        "pass, and writes the rounded ones",
    )
    device: Literal["auto", "cpu", "gpu"] = Field(
        "auto",
        description="what trains, or solves the readout, and evaluates",
        json_schema_extra=RESUMABLE,
    )
    graph: Literal["auto", "on", "off"] = Field(
        "auto",
        description="whether a GPU repeats a step from a recording (CUDA graph)",
        json_schema_extra=RESUMABLE,
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
    threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="threads per rank; 0 takes the cores the rank may use, one for small work, and is recorded",
    )


class StatesSection(Section):
    """Storage of the reservoir's states during the training."""

    precision: Literal["kernel", "bfloat16", "float16"] = Field(
        "kernel", description="number format of the stored states"
    )
    memory_mib: int = Field(
        0,
        ge=0,
        le=2**30,
        description="MiB of states that a rank may store in memory; 0 is its share of the memory of node or job, or of "
        "the free memory of its GPU",
        json_schema_extra=RESUMABLE,
    )
    disk_mib: int = Field(
        65536,
        ge=0,
        le=2**30,
        description="MiB of states that a rank may store in a file in $TMPDIR if they exceed memory_mib; 0 is none. "
        "States that exceed both are computed again in every step",
        json_schema_extra=RESUMABLE,
    )


class CheckpointSection(Section):
    """Checkpoints of the training."""

    every_epochs: int = Field(
        0,
        ge=0,
        description="epochs between checkpoints, in addition to every_seconds; 0 is none",
        json_schema_extra=RESUMABLE,
    )
    keep: int = Field(2, ge=2, le=1000, description="number of checkpoints to keep", json_schema_extra=RESUMABLE)
    every_seconds: float = Field(
        60.0,
        ge=0,
        description="seconds between checkpoints",
        json_schema_extra=RESUMABLE,
    )

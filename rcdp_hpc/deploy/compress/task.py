"""What a compression is asked for, and what its steps work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from rcdp_hpc.config import Config
from rcdp_hpc.config.choices.compression import BITS, UNITS
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.rundir import RunDirectory


@dataclass(frozen=True)
class CompressOptions:
    """What is removed from a model.

    Attributes
    ----------
    keep : float
        Share of the weights, units, nodes or features that are left, in (0, 1].
    unit : {"weights", "units", "nodes", "features"}
        What is removed.
    bits : {32, 8}
        Bits of a stored weight.
    distil : bool
        Whether the new model learns from the outputs of the old one.

    Raises
    ------
    InputError
        If a value is outside its bounds.
    """

    keep: float = 1.0
    unit: str = "weights"
    bits: int = 32
    distil: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise InputError(f"keep = {self.keep:g}: expected a share above 0 and at most 1, such as 0.1")
        if self.unit not in UNITS:
            raise InputError(f"unit = {self.unit!r}: expected one of {', '.join(UNITS)}")
        if self.bits not in BITS:
            raise InputError(f"bits = {self.bits}: expected 32 (float32) or 8 (int8)")


class TrainStage(Protocol):
    """Runs the stage "train" in the new run directory. Collective."""

    def __call__(self, config: Config, restart: bool = False) -> None:
        """Train with these settings; with `restart`, put earlier results of the training aside first."""


@dataclass(frozen=True)
class CompressTask:
    """What a step of a compression works with.

    Attributes
    ----------
    source : RunDirectory
        The run that is compressed. Nothing in it changes.
    target : RunDirectory
        The new run directory. Its shards are a link to those of `source`.
    config : Config
        The settings of the trained model of `source`, without a search, and with the changes that the user asks for.
    comm : Communicator
        All ranks.
    options : CompressOptions
    train : TrainStage
        Trains in `target`.
    """

    source: RunDirectory
    target: RunDirectory
    config: Config
    comm: Communicator
    options: CompressOptions
    train: TrainStage


@dataclass(frozen=True)
class ClosedForm:
    """A model that was computed without a training.

    Attributes
    ----------
    config : Config
        Settings of the new run.
    result : dict
        The result of the stage "train", for its state file (`rcdp_hpc.pipeline.results.TrainResult`).
    """

    config: Config
    result: dict[str, Any]


# Computes the model in ``task.target`` and writes it to ``task.target.model``. Collective.
ClosedFormStep = Callable[[CompressTask], ClosedForm]

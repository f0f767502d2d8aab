"""Table 5: the same network with and without its reservoir, at equal epochs and at equal seconds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rcdp_hpc.comparison.paper.scale import Scale
from rcdp_hpc.comparison.paper.settings import DataFolders, effect_settings
from rcdp_hpc.config import STAGES, Config, with_settings
from rcdp_hpc.pipeline.stages import StageOptions, run_with_options
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import run_on_root
from rcdp_hpc.runtime.digests import read_sealed, read_sealed_lines, write_sealed
from rcdp_hpc.runtime.rundir import RunDirectory

# More epochs than any limit of time allows.
MANY_EPOCHS = 100_000
Equal = Literal["epochs", "seconds"]


@dataclass(frozen=True)
class EffectRun:
    """The result of one network of Table 5.

    Attributes
    ----------
    data : {"cifar10", "mnist"}
    reservoir : bool
        Whether the network has a reservoir.
    equal : {"epochs", "seconds"}
        What it has in common with the network with a reservoir and the same seed.
    seed : int
    accuracy, macro_f1 : float
        On the test rows.
    epochs : int
        Epochs that were trained.
    seconds : float
        Of the training stage, the computation of states included.
    gradient_ratio : float
        Norm of the gradient at the first step of the sequence over that at the last step, in the last epoch. A value
        far below 1 is a gradient that vanishes on its way to the first step.
    """

    data: str
    reservoir: bool
    equal: Equal
    seed: int
    accuracy: float
    macro_f1: float
    epochs: int
    seconds: float
    gradient_ratio: float

    def as_json(self) -> dict[str, Any]:
        """Return the result as a JSON object; a ratio that is not a number is None."""
        finite = math.isfinite(self.gradient_ratio)
        return {**asdict(self), "gradient_ratio": self.gradient_ratio if finite else None}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> EffectRun:
        """Return the result that `as_json` returned as an object."""
        ratio = content["gradient_ratio"]
        return cls(**{**content, "gradient_ratio": math.nan if ratio is None else ratio})


def run_effect(
    data: str,
    folder: Path,
    seed: int,
    comm: Communicator,
    options: StageOptions,
    settings: Callable[[bool], Config],
) -> list[EffectRun]:
    """Train the three networks of one data set and seed. Collective.

    They are the network with its reservoir, the same without a reservoir for as many epochs, and the same without a
    reservoir for as many seconds as the first took.

    Parameters
    ----------
    data : {"cifar10", "mnist"}
    folder : Path
        Folder of the run directories. Finished runs are not repeated.
    seed : int
    comm : Communicator
    options : StageOptions
    settings : callable
        Returns the configuration of the network with (True) or without (False) a reservoir.

    Returns
    -------
    list of EffectRun
        In this order, the same on every rank.
    """

    def train(reservoir: bool, equal: Equal, config: Config) -> EffectRun:
        name = f"{data}-{'reservoir' if reservoir else 'none'}-equal-{equal}-seed-{seed}"
        run, record = RunDirectory(folder / name), folder / f"{name}.json"
        recorded = run_on_root(comm, lambda: _read(record))
        if recorded is not None:
            return recorded
        run_with_options(STAGES, config, run.path, comm, options)
        return run_on_root(comm, lambda: _record(_result(run, data, reservoir, equal, seed), record))

    first = train(True, "epochs", settings(True))
    without = settings(False)
    limit = {"training.epochs": MANY_EPOCHS, "training.patience": MANY_EPOCHS, "training.stop_seconds": first.seconds}
    timed = with_settings(without, limit, where="of Table 5")
    return [first, train(False, "epochs", without), train(False, "seconds", timed)]


def run_effects(
    data_sets: tuple[str, ...],
    folders: DataFolders,
    folder: Path,
    scale: Scale,
    seeds: tuple[int, ...],
    comm: Communicator,
    options: StageOptions,
) -> list[EffectRun]:
    """Train the networks of all data sets and seeds. Collective; parameters as `run_effect`."""
    results = []
    for data in data_sets:
        for seed in seeds:
            settings = partial(effect_settings, data, folders, scale, seed)
            results += run_effect(data, folder, seed, comm, options, settings)
    return results


def _read(record: Path) -> EffectRun | None:
    if not record.exists():
        return None
    return EffectRun.from_json(read_sealed(record, "Remove it; the network is then evaluated again."))


def _record(result: EffectRun, record: Path) -> EffectRun:
    """Write a result, since the seconds of a stage grow when it is started again, and return it."""
    write_sealed(record, result.as_json())
    return result


def _result(run: RunDirectory, data: str, reservoir: bool, equal: Equal, seed: int) -> EffectRun:
    summary = read_sealed(run.report / "summary.json", f"Remove {run.path} and start again.")
    last = read_sealed_lines(run.train / "metrics.jsonl", growing=True)[-1]
    return EffectRun(
        data,
        reservoir,
        equal,
        seed,
        float(summary["test"]["accuracy"]),
        float(summary["test"]["macro_f1"]),
        int(last["epoch"]) + 1,
        float(summary["seconds"]["train"]),
        gradient_ratio(last["gradients"]["steps"]),
    )


def gradient_ratio(norms: list[float]) -> float:
    """Return the norm of the first step over that of the last; NaN if there are fewer than two steps or no gradient."""
    if len(norms) < 2 or not norms[-1] > 0:
        return math.nan
    return norms[0] / norms[-1]

"""Trainings of a tiny network on random rows, in this process."""

from __future__ import annotations

import io

import numpy as np
import torch
from settings import config_of

from rcdp_hpc.networks.assembly import build_network, make_source
from rcdp_hpc.networks.readouts import build_readout
from rcdp_hpc.parallel.base import Strategy
from rcdp_hpc.parallel.single import single_process
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.training.loop import Trainer
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.states.cache import CachedStates
from rcdp_hpc.training.training_checkpoint import TrainerState

ROWS = 90


def rows(seed: int, count: int) -> CachedStates:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    return CachedStates(torch.randn(count, 6, generator=generator) + labels[:, None], labels, 0)


def trainer(
    states: torch.Tensor | None = None,
    comm: SingleProcess | None = None,
    parallel: Strategy | None = None,
    **keys,
) -> Trainer:
    settings = config_of(
        **{
            "training__epochs": 4,
            "training__batch": 8,
            "readout__hidden": 6,
            "readout__outputs": 5,
            "reservoir__nodes": 5,
            "reservoir__density": 1,
            **keys,
        }
    )
    train = rows(1, ROWS) if states is None else CachedStates(states, torch.arange(ROWS) % 3, 0)
    if settings.extractor.trained:
        source = make_source(settings, (2, 3), torch.device("cpu"))
        network = build_network(settings, (2, 3), source, 3, 1)
    else:
        network = build_readout(settings, FeatureShape(1, 3, 2), 3, 1)
    plan = BatchPlan(ROWS, settings.training.batch, 12, 0, 1, 1, reshuffle_every=settings.partition.reshuffle_every)
    comm, parallel = comm or SingleProcess(), parallel or single_process()
    return Trainer(settings, 1, 3, network, train, rows(2, 30), plan, comm, parallel)


def run(one: Trainer) -> list[dict]:
    reports = []
    one.run(lambda: None, lambda report: reports.append(report))
    return reports


def through_a_file(state: TrainerState) -> TrainerState:
    file = io.BytesIO()
    torch.save(state.content(), file)
    file.seek(0)
    return TrainerState.of(torch.load(file, weights_only=True))


EVERYTHING = {
    "optimizer__kind": "lamb",
    "schedule__kind": "plateau",
    "schedule__interval": 1,
    "schedule__warmup_steps": 3,
    "optimizer__learning_rate": 0.05,
    "training__accumulate": 5,
    "optimizer__ema": 0.8,
    "training__precision": "bf16",
    "readout__dropout": 0.2,
    "optimizer__clip_norm": 1.0,
    "loss__l1": 1e-4,
    "loss__class_weights": "balanced",
    "loss__kind": "focal",
}


STEPWISE = [
    {
        "readout__kind": name,
        "readout__outputs": 4,
        "readout__heads": 2,
        "readout__layers": 2,
        "readout__dropout": 0.2,
        "training__gradient_norms": True,
    }
    for name in ("lstm", "gru", "transformer", "convolution")
]
EXTRACTED = {
    "extractor": {"kind": "convolution", "channels": [4]},
    "augment": {"crop": 1, "flip": True, "mixup": 0.3},
    "training__gradient_norms": True,
    "optimizer__ema": 0.9,
}


PRUNED = {"pruning__keep": 0.2, "pruning__epochs": 2, "pruning__every": 3, "optimizer__ema": 0.9, "loss__l1": 1e-3}
GATED = {"pruning__method": "l0", "pruning__epochs": 2, "pruning__l0_penalty": 30.0}


def poisoned(bad: tuple[int, ...] = (17,), **keys) -> Trainer:
    """Return a training in which rows become NaN after the standardisation."""
    one = trainer(rows(1, ROWS).states.clone(), **keys)
    one.train.states[list(bad)] = np.nan
    return one

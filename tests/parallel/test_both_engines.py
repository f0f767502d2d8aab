"""Horovod and torch.distributed on two real ranks: the same losses and weights, to the bit."""

from __future__ import annotations

import json

import pytest
from launch import REPOSITORY, python, run_ranks

pytestmark = pytest.mark.mpi

# Every case trains with both engines, one after the other in the same processes.
SAME = """
import copy, json, sys
import numpy as np, torch
from rcdp_hpc.config import ParallelSection
from rcdp_hpc.parallel.choose import strategy_for
from rcdp_hpc.runtime.comm.connect import connect
from rcdp_hpc.training.loop import Trainer
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.states.cache import CachedStates
from rcdp_hpc.networks.readouts.load import build_readout
from rcdp_hpc.reservoir.reductions.feature_shape import FeatureShape
from settings import config_of

ROWS, comm = 61, connect(60)

def rows(seed, start, stop):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(ROWS) % 3
    states = torch.randn(ROWS, 6, generator=generator) + labels[:, None]
    return CachedStates(states[start:stop].clone(), labels[start:stop].clone(), start)

def losses(engine, keys, begun=None):
    keys = {"training__epochs": 3, "training__batch": 5, "readout__hidden": 6, "readout__outputs": 5, **keys}
    settings = config_of(parallel__engine=engine, **keys)
    every = settings.partition.reshuffle_every
    plan = BatchPlan(ROWS, 10, 12, comm.rank, comm.size, 1, (1.0, 2.0), reshuffle_every=every)
    strategy = strategy_for(comm, 60, settings.parallel)
    network = build_readout(settings, FeatureShape(1, 3, 2), 3, 1, strategy)
    train, validation = rows(1, *plan.local_rows), rows(2, 30 * comm.rank, 30 + 31 * comm.rank)
    trainer = Trainer(settings, 1, 3, network, train, validation, plan, comm, strategy)
    if begun is not None:
        trainer.restore(begun)
    reports, states = [], []
    def pause():
        if trainer.position.epoch == 1 and not states:
            states.append(copy.deepcopy(trainer.state()))
    trainer.run(pause, reports.append)
    strategy.engine.close()
    weights = torch.cat([value.double().flatten() for value in network.state_dict().values()])
    found = [(one.train_loss, one.validation_loss, one.gradient_norm) for one in reports]
    return found, weights.tolist(), strategy.engine.describe(), [one.cost.bytes_sent for one in reports], states

CASES = {
    "plain": {},
    "accumulate": {"training__accumulate": 2},
    "fp16": {"parallel__compression": "fp16"},
    "local SGD": {"parallel__local_steps": 3},
    "replicas": {"parallel__replicas": "averaged"},
    "reshuffle": {"partition__reshuffle_every": 1},
    "muon": {"optimizer__kind": "muon"},
}
found = {name: [losses(engine, keys) for engine in ("horovod", "torch")] for name, keys in CASES.items()}
# The other half of a training that Horovod has begun, and the reverse.
states = [values[-1] for values in found["plain"]]
found["resumed"] = [losses(engine, {}, *state) for engine, state in zip(("torch", "horovod"), states, strict=True)]
found = {name: [values[:4] for values in pair] for name, pair in found.items()}
if comm.is_root:
    print("FOUND", json.dumps(found), flush=True)
"""


def test_two_ranks_have_the_same_losses_and_weights_to_the_bit():
    done = run_ranks(2, python(SAME), timeout=120, env={"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"})
    assert done.returncode == 0, done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    found = json.loads(line.removeprefix("FOUND "))
    for resumed in found.pop("resumed"):
        assert resumed[0] == found["plain"][0][0][-len(resumed[0]) :]
        assert resumed[1] == found["plain"][0][1]
    for case, (horovod, other) in found.items():
        assert (horovod[2], other[2]) == ("Horovod", "torch.distributed, Gloo"), case
        assert horovod[:2] == other[:2], case
        assert horovod[3] == other[3], case

"""Training with Horovod compared with torch's DistributedDataParallel over Gloo: samples per second and loss curves.

    python benchmarks/training_peers.py --data MNIST [--batches 64 512] [--readouts network lstm] [--repeats 7]

Two ranks of one thread train the same network from the same weights on the same batches of cached states of MNIST: by
the package under mpirun, by the package under horovodrun's Gloo, and by a plain loop around DistributedDataParallel.
The three run in turn, in separate processes, and train every case for a few epochs; the first epoch is not timed. DDP
has no batch normalisation over all ranks on the CPU, so the benchmark adds it with DDP's messages. Without --data,
inputs are random.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from reservoir_inputs import images, labels

from rcdp_hpc.config import Config, ReservoirSection, parse_config
from rcdp_hpc.data.split import slab_bounds
from rcdp_hpc.networks.readouts import build_readout
from rcdp_hpc.parallel.single import SingleProcessEngine
from rcdp_hpc.parallel.synchronous import Synchronous
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.training.optim.objective import Objective
from rcdp_hpc.training.optim.optimizers import make_optimizer
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.states.cache import CachedStates

RANKS, VALIDATION, SEED = 2, 1000, 1
KINDS = ("horovod-mpi", "horovod-gloo", "ddp-gloo")
HERE = [sys.executable, __file__, "--worker"]
LAUNCH = {
    "horovod-mpi": ["mpirun", "-n", str(RANKS), "--oversubscribe", "--bind-to", "none", *HERE],
    "horovod-gloo": ["horovodrun", "--gloo", "-np", str(RANKS), *HERE],
    "ddp-gloo": [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}", *HERE[1:]],
}
# What each readout is trained on: the last state alone, or four of them, read one by one.
READOUTS = {"network": 1, "lstm": 4}


def settings_of(readout: str, batch: int, epochs: int) -> Config:
    training = {"batch": batch, "epochs": epochs, "patience": epochs, "loss_target": 0.0, "threads": 1}
    tree = {"readout": {"kind": readout}, "training": training, "search": {"generations": 0}}
    if readout != "network":
        tree["reservoir"] = {"reduction": ["all"]}
    return parse_config(tree, where="of the benchmark")


def compute_states(folder: Path, data: str, rows: int, nodes: int) -> None:
    """Write the states that all trainings share."""
    x = images(data, rows + VALIDATION).astype(np.float32) / 255
    np.save(folder / "labels.npy", labels(data, rows + VALIDATION))
    for readout, kept in READOUTS.items():
        settings = ReservoirSection(nodes=nodes, states=kept, input_scaling=0.5, kernel="dense-fp32")
        reservoir = Reservoir(settings, x.shape[2], "dense-fp32", steps=x.shape[1])
        states = np.concatenate([reservoir.states(block).numpy() for block in np.array_split(x, 20)])
        np.save(folder / f"{readout}.npy", states)


class Rows:
    """What a rank trains on in one case."""

    def __init__(self, folder: Path, readout: str, config: Config, rank: int, ranks: int) -> None:
        states = np.load(folder / f"{readout}.npy", mmap_mode="r")
        classes = np.load(folder / "labels.npy")
        total = len(classes) - VALIDATION
        self.plan = BatchPlan(total, config.training.batch * ranks, config.partition.count, rank, ranks, SEED)
        kept = READOUTS[readout]
        self.feature_shape = FeatureShape(1, kept, states.shape[1] // kept)

        def part(low: int, high: int) -> CachedStates:
            return CachedStates(torch.from_numpy(states[low:high].copy()), torch.from_numpy(classes[low:high]), low)

        self.train = part(*self.plan.local_rows)
        low, high = slab_bounds(VALIDATION, rank, ranks)
        self.validation = part(total + low, total + high)


def by_package(folder: Path, case: dict) -> tuple[list[float], list[float], int]:
    """Train by the package; return each epoch's loss and samples a second, and the rank."""
    from rcdp_hpc.parallel.choose import strategy_for
    from rcdp_hpc.runtime.comm.connect import connect
    from rcdp_hpc.training.loop import Trainer

    comm = connect()
    settings = settings_of(case["readout"], case["batch"], case["epochs"])
    parallel = strategy_for(comm, 120, settings.parallel)
    rows = Rows(folder, case["readout"], settings, comm.rank, comm.size)
    network = build_readout(settings, rows.feature_shape, 10, SEED, parallel)
    trainer = Trainer(settings, SEED, 10, network, rows.train, rows.validation, rows.plan, comm, parallel)
    reports = []
    trainer.run(lambda: None, reports.append)
    losses, rates = zip(*((one.train_loss, one.samples_per_second) for one in reports), strict=True)
    return list(losses), list(rates), comm.rank


def by_ddp(folder: Path, case: dict) -> tuple[list[float], list[float], int]:
    """Train by DistributedDataParallel; as `by_package`."""
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    if not dist.is_initialized():
        dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()

    class SumOverRanks(torch.autograd.Function):
        @staticmethod
        def forward(ctx, values):
            total = values.clone()
            dist.all_reduce(total)
            return total

        @staticmethod
        def backward(ctx, gradient):
            total = gradient.clone()
            dist.all_reduce(total)
            return total

    class Ranks(SingleProcessEngine):
        def sum(self, values, name):
            return SumOverRanks.apply(values)

    settings = settings_of(case["readout"], case["batch"], case["epochs"])
    rows = Rows(folder, case["readout"], settings, rank, ranks)
    plan, states, classes = rows.plan, rows.train.states, rows.train.labels
    network = build_readout(settings, rows.feature_shape, 10, SEED, Synchronous(Ranks()))
    moments = torch.from_numpy(rows.train.moments())
    dist.all_reduce(moments)
    network.standardise(moments[0], moments[1], plan.rows)
    # The buffers are equal on all ranks: DDP need not send them in every step.
    model = DistributedDataParallel(network, broadcast_buffers=False, gradient_as_bucket_view=True)
    optimizer = make_optimizer(settings, network)
    objective = Objective(settings, np.ones(10, np.int64))
    losses, rates = [], []
    for epoch in range(case["epochs"]):
        started, total = time.perf_counter(), 0.0
        orders = plan.orders(epoch)
        for step in range(plan.steps):
            chosen = torch.from_numpy(plan.batch(orders, step))
            optimizer.zero_grad()
            loss = objective.sum(model(states[chosen]), classes[chosen])
            # DDP takes the mean over ranks, and the loss shall be the mean over the rows of all.
            (loss * (ranks / plan.global_rows(step))).backward()
            optimizer.step()
            total += loss.item()
        rates.append(plan.rows / (time.perf_counter() - started))
        seen = torch.tensor([total], dtype=torch.float64)
        dist.all_reduce(seen)
        losses.append(float(seen) / plan.rows)
    return losses, rates, rank


def worker(folder: Path, kind: str) -> None:
    """One rank of one kind: train every case, rank 0 writing what they showed."""
    train = by_ddp if kind == "ddp-gloo" else by_package
    with limit_threads(1):
        for case in json.loads((folder / "cases.json").read_text()):
            losses, rates, rank = train(folder, case)
            if rank == 0:
                with (folder / "found.jsonl").open("a") as file:
                    file.write(json.dumps({**case, "kind": kind, "losses": losses, "rate": rates[1:]}) + "\n")


def measure(folder: Path, kind: str) -> None:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OMPI_MCA_mpi_yield_when_idle": "1"}
    done = subprocess.run([*LAUNCH[kind], str(folder), kind], env=env, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise SystemExit(f"{kind} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def table(found: list[dict]) -> None:
    cases = defaultdict(lambda: defaultdict(list))
    for one in found:
        cases[one["readout"], one["batch"]][one["kind"]].append(one)
    print("| readout | batch a rank | " + " | ".join(KINDS) + " | share of DDP's | losses differ by |")
    print("|---|---|" + "---|" * (len(KINDS) + 2))
    for (readout, batch), kinds in cases.items():
        rate = {kind: statistics.median([r for one in runs for r in one["rate"]]) for kind, runs in kinds.items()}
        # Of each turn, so that what slows the machine for a while slows both.
        shares = {
            kind: statistics.median(
                statistics.median(one["rate"]) / statistics.median(peer["rate"])
                for one, peer in zip(kinds[kind], kinds["ddp-gloo"], strict=True)
            )
            for kind in KINDS[:2]
        }
        losses = {kind: np.array(runs[0]["losses"]) for kind, runs in kinds.items()}
        apart = max(float(np.abs(losses[kind] - losses["ddp-gloo"]).max()) for kind in KINDS[:2])
        print(
            f"| {readout} | {batch} | " + " | ".join(f"{rate[kind]:,.0f}" for kind in KINDS)
            + " | " + ", ".join(f"{share:.0%}" for share in shares.values()) + f" | {apart:.1e} |"
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="", help="folder of MNIST's IDX files")
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--readouts", nargs="+", choices=tuple(READOUTS), default=list(READOUTS))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rows", type=int, default=12_000)
    parser.add_argument("--nodes", type=int, default=1000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compute_states(folder, chosen.data, chosen.rows, chosen.nodes)
        cases = [
            {"readout": readout, "batch": batch, "epochs": chosen.epochs}
            for readout in chosen.readouts
            for batch in chosen.batches
        ]
        (folder / "cases.json").write_text(json.dumps(cases))
        for turn in range(chosen.repeats):
            # Whoever is first in one turn is last in another.
            for kind in (*KINDS[turn % len(KINDS) :], *KINDS[: turn % len(KINDS)]):
                measure(folder, kind)
        table([json.loads(line) for line in (folder / "found.jsonl").read_text().splitlines()])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(Path(sys.argv[2]), sys.argv[3])
    else:
        main()

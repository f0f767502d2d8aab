"""The engines of the training, Horovod and torch.distributed, compared with DistributedDataParallel.

    python benchmarks/training_peers.py --data MNIST [--engines horovod torch] [--launchers mpirun gloo] [--repeats 7]

Two ranks of one thread train the same network from the same weights on the same batches of cached states of MNIST: by
the package with each engine, under mpirun and under the engine's own launcher (horovodrun with Gloo, torchrun), and by
a plain loop around DistributedDataParallel over Gloo. All run in turn, in separate processes, in an order that rotates,
and train every case for a few epochs; the first epoch is not timed. DDP has no batch normalisation over all ranks on
the CPU, so the benchmark adds it with DDP's messages. Without --data, inputs are random.

For each case, the table has the median of the samples per second; the ratio to DDP, and to the first row, as median and
range over the rounds; the seconds per epoch in which ranks communicate (without waiting for each other); and the
largest difference of an epoch's loss from the first row.
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
from collections.abc import Iterable
from dataclasses import asdict, dataclass
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
DDP = "ddp"
HERE = [__file__, "--worker"]
MPIRUN = ["mpirun", "-n", str(RANKS), "--oversubscribe", "--bind-to", "none", sys.executable, *HERE]
HOROVODRUN = ["horovodrun", "--gloo", "-np", str(RANKS), sys.executable, *HERE]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}", *HERE]
# The command of each engine and launcher.
COMMANDS = {
    ("horovod", "mpirun"): MPIRUN,
    ("torch", "mpirun"): MPIRUN,
    ("horovod", "gloo"): HOROVODRUN,
    ("torch", "gloo"): TORCHRUN,
    (DDP, "gloo"): TORCHRUN,
}
TITLES = {
    ("horovod", "mpirun"): "Horovod, mpirun",
    ("torch", "mpirun"): "torch, mpirun",
    ("horovod", "gloo"): "Horovod, horovodrun",
    ("torch", "gloo"): "torch, torchrun",
    (DDP, "gloo"): "DDP, torchrun",
}
# What each readout is trained on: the last state alone, or four of them, read one by one.
READOUTS = {"network": 1, "lstm": 4}


def settings_of(readout: str, batch: int, epochs: int, engine: str = "auto") -> Config:
    training = {"batch": batch, "epochs": epochs, "patience": epochs, "loss_target": 0.0, "threads": 1}
    tree = {"readout": {"kind": readout}, "training": training, "search": {"generations": 0}}
    tree["parallel"] = {"engine": engine}
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


@dataclass
class Curve:
    """What a rank measured in one case: for each epoch the loss, samples per second, and seconds of communication."""

    rank: int
    losses: list[float]
    rates: list[float]
    seconds: list[float]


def by_package(folder: Path, case: dict, engine: str) -> Curve:
    """Train by the package."""
    from rcdp_hpc.parallel.choose import strategy_for
    from rcdp_hpc.runtime.comm.connect import connect
    from rcdp_hpc.training.loop import Trainer

    comm = connect()
    settings = settings_of(case["readout"], case["batch"], case["epochs"], engine)
    parallel = strategy_for(comm, 120, settings.parallel)
    rows = Rows(folder, case["readout"], settings, comm.rank, comm.size)
    network = build_readout(settings, rows.feature_shape, 10, SEED, parallel)
    trainer = Trainer(settings, SEED, 10, network, rows.train, rows.validation, rows.plan, comm, parallel)
    reports = []
    trainer.run(lambda: None, reports.append)
    parallel.engine.close()
    return Curve(
        comm.rank,
        [one.train_loss for one in reports],
        [one.samples_per_second for one in reports],
        [one.cost.communicate_seconds[0] for one in reports],
    )


def by_ddp(folder: Path, case: dict, engine: str) -> Curve:
    """Train by DistributedDataParallel, which does not measure its communication."""
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
        alone = False

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
    return Curve(rank, losses, rates, [])


def worker(folder: Path, engine: str, launcher: str) -> None:
    """Train every case on one rank; rank 0 writes the curves."""
    train = by_ddp if engine == DDP else by_package
    with limit_threads(1):
        for case in json.loads((folder / "cases.json").read_text()):
            curve = train(folder, case, engine)
            if curve.rank == 0:
                with (folder / "curves.jsonl").open("a") as file:
                    file.write(json.dumps({**case, "way": [engine, launcher], **asdict(curve)}) + "\n")
    if engine == DDP:
        # A rank that exits while the other still sends its last message would abort it.
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def measure(folder: Path, way: tuple[str, str]) -> None:
    """Train every case with one engine and launcher."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OMPI_MCA_mpi_yield_when_idle": "1"}
    done = subprocess.run([*COMMANDS[way], str(folder), *way], env=env, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise SystemExit(f"{TITLES[way]} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def ratio(runs: list[dict], others: list[dict]) -> str:
    """Return the ratio of two speeds, as median and range over the rounds: what slows a round slows both."""
    ratios = [
        statistics.median(run["rates"][1:]) / statistics.median(other["rates"][1:])
        for run, other in zip(runs, others, strict=True)
    ]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def difference(runs: list[dict], others: list[dict]) -> str:
    """Return the largest difference of the losses of two ways, over all rounds."""
    largest = max(np.abs(np.subtract(a["losses"], b["losses"])).max() for a in runs for b in others)
    return f"{largest:.1e}" if largest else "equal"


def table(curves: list[dict], ways: list[tuple[str, str]]) -> str:
    """Return the table of all curves."""
    cases = defaultdict(lambda: defaultdict(list))
    for curve in curves:
        cases[curve["readout"], curve["batch"]][tuple(curve["way"])].append(curve)
    head = ("readout", "batch a rank", "trained by", "samples/s", "ratio to DDP", f"ratio to {TITLES[ways[0]]}")
    head = (*head, "communication, s/epoch", "loss differs by")
    lines = [_row(head), "|---" * len(head) + "|"]
    for (readout, batch), by_way in cases.items():
        first = by_way[ways[0]]
        for way in ways:
            runs = by_way[way]
            rate = statistics.median(rate for run in runs for rate in run["rates"][1:])
            seconds = [second for run in runs for second in run["seconds"][1:]]
            communication = f"{statistics.median(seconds):.3f}" if seconds else "not measured"
            ratios = ratio(runs, by_way[DDP, "gloo"]), ratio(runs, first)
            lines.append(
                _row((readout, batch, TITLES[way], f"{rate:,.0f}", *ratios, communication, difference(runs, first)))
            )
    return "\n".join(lines)


def _row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="", help="folder of MNIST's IDX files")
    parser.add_argument("--engines", nargs="+", choices=("horovod", "torch"), default=["horovod", "torch"])
    parser.add_argument("--launchers", nargs="+", choices=("mpirun", "gloo"), default=["mpirun", "gloo"])
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--readouts", nargs="+", choices=tuple(READOUTS), default=list(READOUTS))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=4, help="at least 2: the first is not timed")
    parser.add_argument("--rows", type=int, default=12_000)
    parser.add_argument("--nodes", type=int, default=1000)
    chosen = parser.parse_args(arguments)
    if chosen.epochs < 2:
        parser.error("--epochs must be at least 2: the first epoch is not timed")
    ways = [way for way in COMMANDS if way[0] in chosen.engines and way[1] in chosen.launchers] + [(DDP, "gloo")]
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
            # The first of one round is the last of the next.
            start = turn % len(ways)
            for way in (*ways[start:], *ways[:start]):
                measure(folder, way)
        print(table([json.loads(line) for line in (folder / "curves.jsonl").read_text().splitlines()], ways))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(Path(sys.argv[2]), *sys.argv[3:5])
    else:
        main()

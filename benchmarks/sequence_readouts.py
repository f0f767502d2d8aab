"""MNIST's rows as sequences: LSTM alone, reservoir and LSTM, reservoir and eq. 11; accuracy over wall time.

    python benchmarks/sequence_readouts.py --data MNIST [--rates 2e-3 4e-3 8e-3] [--epochs 1 2 3] [--plot PNG]

Two ranks of one thread train with a cosine schedule. Seconds count from the raw images in memory. They include the
states of the training rows, the ridge readout that eq. 11 may start from, and the evaluation after each epoch; they do
not include the additional evaluations within an epoch. Accuracy is measured on 6,000 images held out of the training
set. Each network is trained with every rate and number of epochs; the combination that reached --target first is then
trained once more, and this training is shown. The LSTM has the same choices as the others, and both number formats.
Only the last training uses the test images.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from itertools import product
from pathlib import Path

import numpy as np
import torch
from reservoir_inputs import images, labels

from rcdp_hpc.config import Config, parse_config
from rcdp_hpc.data.split import slab_bounds
from rcdp_hpc.networks.assembly import build_network, make_source
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.solve.ridge_fit import RowSource, fit_ridge
from rcdp_hpc.training.solve.warm_start import warm_start
from rcdp_hpc.training.states.cache import CachedStates

RANKS, HELD_OUT, TEST, SEED = 2, 6_000, 10_000, 1
LOOK_SECONDS = 0.15

RESERVOIR = {"nodes": 250, "steps": [8, 12, 16, 20, 24], "input_scaling": 0.5, "leak": 0.4, "spectral_radius": 1.0}
LSTM = {"kind": "lstm", "outputs": 100, "hidden": 128}
EQ_11 = {"outputs": 64, "hidden": 64}
CASES = {
    "LSTM alone": {"reservoir": {"kind": "none"}, "readout": LSTM},
    "LSTM alone, bf16": {"reservoir": {"kind": "none"}, "readout": LSTM, "training": {"precision": "bf16"}},
    "reservoir and LSTM": {"reservoir": RESERVOIR, "readout": LSTM},
    "reservoir and eq. 11": {"reservoir": RESERVOIR, "readout": EQ_11},
    "reservoir and eq. 11, from ridge": {
        "reservoir": RESERVOIR,
        "readout": {**EQ_11, "warm_start": True, "ridge_selection": "validation"},
    },
}


def configuration(given: dict) -> Config:
    tree = {name: dict(section) for name, section in CASES[given["case"]].items()}
    tree["reservoir"]["kernel"] = given["kernel"]
    training = {"batch": given["batch"], "epochs": given["epochs"], "loss_target": 0.0, "threads": 1}
    tree["training"] = {**tree.get("training", {}), **training}
    tree["optimizer"] = {"learning_rate": given["rate"]}
    tree["schedule"] = {"kind": "cosine"}
    return parse_config(tree, "(of a benchmark)")


def train(given: dict, config: Config) -> dict | None:
    """Train one network on all ranks; return the curve, on rank 0."""
    # Torch's optimisers import its compiler at their first step: do it before the clock starts.
    import_module("torch._dynamo")
    from rcdp_hpc.parallel.choose import strategy_for
    from rcdp_hpc.runtime.comm.connect import connect
    from rcdp_hpc.training.loop import Trainer

    comm = connect()
    parallel = strategy_for(comm, 120, config.parallel)
    # The test images follow the training images.
    x, y = images(given["data"], 60_000 + TEST), labels(given["data"], 60_000 + TEST)
    source = make_source(config, x.shape[1:], torch.device("cpu"))

    def states(low: int, high: int) -> CachedStates:
        kept = torch.empty((high - low, source.width), dtype=source.dtype)
        for start in range(low, high, source.batch_rows):
            block = x[start : min(start + source.batch_rows, high)]
            source.drive(
                np.multiply(block, 1 / 255, dtype=np.float32), out=kept[start - low : start - low + len(block)]
            )
        return CachedStates(kept, torch.from_numpy(y[low:high]), low)

    plan = BatchPlan(given["rows"], config.training.batch * comm.size, 12, comm.rank, comm.size, SEED)
    held, test = (slab_bounds(count, comm.rank, comm.size) for count in (HELD_OUT, TEST))
    validation = states(60_000 - HELD_OUT + held[0], 60_000 - HELD_OUT + held[1])
    comm.barrier()
    # Rank 0's clock decides for all.
    started, looking = comm.broadcast(time.perf_counter()), 0.0
    known = states(*plan.local_rows)
    comm.barrier()
    spent_on_states = time.perf_counter() - started
    network = build_network(config, x.shape[1:], source, 10, SEED, parallel)
    trainer = Trainer(config, SEED, 10, network, known, validation, plan, comm, parallel)
    if config.readout.warm_start:
        pieces = [plan.partition_bounds(slab) for slab in plan.local_partitions]
        first, size = plan.local_rows[0], source.batch_rows
        rows = RowSource(
            source.width, 10, given["rows"], HELD_OUT, np.bincount(y[: given["rows"]], minlength=10),
            lambda: (known.blocks(size, low - first, high - first) for low, high in pieces),
            lambda: [validation.blocks(size)], lambda: None,
        )  # fmt: skip
        fit = fit_ridge(config, comm, rows, with_validation=False)
        warm_start(network, fit)
    curve: list[tuple[float, float]] = []
    reached, looked = float("inf"), started

    def accuracy(rows: CachedStates, total: int) -> float:
        network.eval()
        with torch.no_grad():
            right = sum(
                int((network(s.float()).argmax(1) == labels).sum())
                for s, labels in zip(rows.states.split(1000), rows.labels.split(1000), strict=True)
            )
        network.train()
        return float(comm.allreduce(np.array([right]))[0]) / total

    def look() -> None:
        nonlocal looking, looked, reached
        before = comm.broadcast(time.perf_counter())
        if before - looked < LOOK_SECONDS:
            return
        now = before - started - looking
        curve.append((now, accuracy(validation, HELD_OUT)))
        looked = comm.broadcast(time.perf_counter())
        looking += looked - before
        if curve[-1][1] >= given["target"]:
            reached = min(reached, now)

    # A network that starts as the ridge readout may reach the accuracy before its first step.
    look()
    trainer.run(look, lambda report: None)
    looked = 0.0
    look()
    chosen = {name: given[name] for name in ("rate", "epochs")}
    found = {"reached": reached, "states": spent_on_states, "curve": curve, **chosen}
    if given["last"]:
        found["test"] = accuracy(states(60_000 + test[0], 60_000 + test[1]), TEST)
    return found if comm.is_root else None


def worker(folder: Path) -> None:
    given = json.loads((folder / "case.json").read_text())
    with limit_threads(1):
        found = train(given, configuration(given))
    if found:
        (folder / "found.json").write_text(json.dumps(found))


def measure(case: dict) -> dict:
    with tempfile.TemporaryDirectory() as name:
        Path(name, "case.json").write_text(json.dumps(case))
        launch = ["mpirun", "-n", str(RANKS), "--oversubscribe", "--bind-to", "none"]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "OMPI_MCA_mpi_yield_when_idle": "1"}
        here = [sys.executable, __file__, "--worker", name]
        done = subprocess.run([*launch, *here], env=env, capture_output=True, text=True, timeout=900)
        if done.returncode:
            raise SystemExit(f"{case} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return json.loads(Path(name, "found.json").read_text())


def plot(shown: dict[str, dict], target: float, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for case, found in shown.items():
        axes.plot(
            *zip(*found["curve"], strict=True), ".-", label=f"{case}, rate {found['rate']:g}, {found['epochs']} epochs"
        )
    axes.axhline(target, color="grey", linewidth=0.8)
    axes.set(xlabel="seconds, states included", ylabel="accuracy on held-out images", ylim=(0.85, 1.0))
    axes.set_title("MNIST's rows, two ranks of one thread")
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of MNIST's IDX files")
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-3, 4e-3, 8e-3])
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--cases", nargs="+", choices=tuple(CASES), default=list(CASES))
    parser.add_argument("--batch", type=int, default=128, help="of each rank")
    parser.add_argument("--rows", type=int, default=60_000 - HELD_OUT)
    parser.add_argument("--target", type=float, default=0.97)
    parser.add_argument("--kernel", default="fused-bf16", help="of the reservoir's states")
    parser.add_argument("--plot", type=Path)
    chosen = parser.parse_args()
    shared = {name: getattr(chosen, name) for name in ("batch", "rows", "target", "kernel", "data")}
    shown: dict[str, dict] = {}
    for case in chosen.cases:
        reached = {}
        for rate, epochs in product(chosen.rates, chosen.epochs):
            trial = {**shared, "case": case, "rate": rate, "epochs": epochs}
            reached[rate, epochs] = measure({**trial, "last": False})["reached"]
            print(
                f"{case}, rate {rate:g}, {epochs} epochs: {reached[rate, epochs]:.1f} s to {chosen.target:.0%}",
                flush=True,
            )
        rate, epochs = min(reached, key=lambda choice: reached[choice])
        shown[case] = measure({**shared, "case": case, "rate": rate, "epochs": epochs, "last": True})
    alone = min((found["reached"] for case, found in shown.items() if case.startswith("LSTM")), default=float("nan"))
    print(f"\n| network | rate, epochs | s of states | s to {chosen.target:.0%} | LSTM / this | states known | test |")
    print("|---|---|---|---|---|---|---|")
    for case, found in shown.items():
        print(
            f"| {case} | {found['rate']:g}, {found['epochs']} | {found['states']:.1f} | {found['reached']:.1f} "
            f"| {alone / found['reached']:.1f} | {alone / (found['reached'] - found['states']):.1f} "
            f"| {found['test']:.2%} after {found['curve'][-1][0]:.1f} s |"
        )
    if chosen.plot:
        plot(shown, chosen.target, chosen.plot)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(Path(sys.argv[2]))
    else:
        main()

"""Vanishing gradients: the same networks with and without the reservoir, trained on the rows of MNIST in one run.

    python benchmarks/gradient_norms.py --data FOLDER --picture docs/images/gradients.png

The norms are those of `training.gradient_norms`: by layer, and by time step at the input of the readout. For networks
with a reservoir, the gradient is also propagated through the fixed reservoir to its input.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from reservoir_inputs import images, labels

from rcdp_hpc.config import ReservoirSection, parse_config
from rcdp_hpc.networks.assembly import build_network
from rcdp_hpc.parallel.single import single_process
from rcdp_hpc.reservoir.gradient import DifferentiableReservoir
from rcdp_hpc.reservoir.identity_source import StateSource, make_reservoir
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.training.loop import Trainer
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.report import EpochReport
from rcdp_hpc.training.states.cache import CachedStates

SHAPE, CLASSES, SEED = (28, 28), 10, 1
READOUTS = {"LSTM": "lstm", "eq. 11": "network"}


@dataclass
class Trained:
    name: str
    reports: list[EpochReport]
    through: list[float] | None
    seconds: float


def train(name: str, readout: str, source: StateSource, states: torch.Tensor, x: np.ndarray, y: torch.Tensor,
          options: argparse.Namespace) -> Trained:  # fmt: skip
    epochs = options.epochs
    tree = {
        "reservoir": source.settings.model_dump(exclude_none=True),
        "readout": {"kind": readout, "outputs": 100, "hidden": 128},
        "training": {"batch": 64, "epochs": epochs, "patience": epochs, "gradient_norms": True},
        "search": {"generations": 0},
    }
    config = parse_config(tree, where="of the benchmark")
    network = build_network(config, SHAPE, source, CLASSES, SEED)
    rows = options.rows
    train_rows = CachedStates(states[:rows], y[:rows], 0)
    validation = CachedStates(states[rows:], y[rows:], 0)
    plan = BatchPlan(rows, config.training.batch, config.partition.count, 0, 1, SEED)
    trainer = Trainer(config, SEED, CLASSES, network, train_rows, validation, plan, SingleProcess(), single_process())
    reports: list[EpochReport] = []
    started = time.perf_counter()
    trainer.run(lambda: None, reports.append)
    seconds = time.perf_counter() - started
    through = led_on(source, network, x[:64], y[:64]) if isinstance(source, Reservoir) else None
    return Trained(name, reports, through, seconds)


def led_on(reservoir: Reservoir, network: torch.nn.Module, x: np.ndarray, y: torch.Tensor) -> list[float]:
    """Return the norm of dL / du_t, u the input of the reservoir, for each step t."""
    u = torch.from_numpy(x).clone().requires_grad_()
    scores = network.eval()(DifferentiableReservoir(reservoir)(u))
    torch.nn.functional.cross_entropy(scores, y).backward()
    return u.grad.square().sum((0, 2)).sqrt().tolist()


def relative(norms: list[float]) -> np.ndarray:
    return np.array(norms) / norms[-1]


def tell(found: list[Trained]) -> None:
    print("| network | first step's norm over the last's: epoch 1 | last epoch | on through the reservoir | "
          "layers, smallest over largest | validation | seconds |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    for one in found:
        first, last = (relative(report.gradients["steps"])[0] for report in (one.reports[0], one.reports[-1]))
        means = [layer["mean"] for layer in one.reports[-1].gradients["layers"].values()]
        through = f"{relative(one.through)[0]:.2g}" if one.through else "-"
        print(
            f"| {one.name} | {first:.2g} | {last:.2g} | {through} | {min(means) / max(means):.2g} | "
            f"{100 * one.reports[-1].validation_accuracy:.1f} % | {one.seconds:.1f} |"
        )
    print()
    for one in found:
        layers = one.reports[-1].gradients["layers"]
        print(f"{one.name}:", ", ".join(f"{name} {norm['mean']:.3g}" for name, norm in layers.items()))


def draw(found: list[Trained], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for axis, epoch in zip(axes, (0, -1), strict=True):
        for number, one in enumerate(found):
            report: Any = one.reports[epoch]
            axis.semilogy(relative(report.gradients["steps"]), color=f"C{number}", label=one.name)
            if epoch and one.through:
                axis.semilogy(relative(one.through), ":", color=f"C{number}", label=f"{one.name}: at the input")
        axis.set(xlabel="time step t", title=f"epoch {len(found[0].reports) if epoch else 1}")
    axes[0].set_ylabel("norm of dL/du_t, the last step's being 1")
    axes[1].legend(fontsize=7)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help="folder of MNIST's IDX files; without it random images")
    parser.add_argument("--rows", type=int, default=4000, help="training rows; half as many are held out")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--nodes", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--picture", default="", help="where the curves are drawn")
    options = parser.parse_args()
    count = options.rows * 3 // 2
    x = images(options.data, count).astype(np.float32) / 255
    y = torch.from_numpy(labels(options.data, count))
    found = []
    with limit_threads(options.threads):
        for what, kind in (("alone", "none"), ("reservoir", "random")):
            settings = ReservoirSection(kind=kind, nodes=options.nodes, reduction="all", kernel="dense-fp32")
            source = make_reservoir(settings, SHAPE)
            started = time.perf_counter()
            states = torch.cat([source.drive(block) for block in np.array_split(x, -(-count // 500))])
            print(f"{what}: {states.shape[1]} values a sample in {time.perf_counter() - started:.1f} s", flush=True)
            for readout, key in READOUTS.items():
                name = f"{readout} alone" if kind == "none" else f"reservoir and {readout}"
                found.append(train(name, key, source, states, x, y, options))
    tell(found)
    if options.picture:
        draw(found, options.picture)


if __name__ == "__main__":
    main()

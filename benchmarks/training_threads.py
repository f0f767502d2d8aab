"""The size from which a second thread helps a training step or the states: the rule of `training.threads = 0`.

    python benchmarks/training_threads.py [--threads 2] [--repeats 7]

The program times steps of the readout network (forward, backward, update) on one thread and on several, in turn. The
last column is the median over the repeats of the seconds on several threads divided by those on one.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import rcdp_hpc  # noqa: F401  ahead of torch: it sets how OpenMP's threads wait

# isort: split
import torch

from rcdp_hpc.config import load_config
from rcdp_hpc.networks.assembly import build_network, make_source
from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.runtime.threads import limit_threads

STEPS = [(32, 400, 128), (128, 400, 128), (512, 400, 128), (64, 2000, 256), (256, 1000, 256), (256, 2000, 256)]
NODES = [(256, 100), (256, 200), (1024, 200), (1024, 400), (4096, 400)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    chosen = parser.parse_args()
    print(f"{'':<46}{'multiply-adds':>14}{'one, ms':>10}{'several':>10}{'ratio':>8}")
    for batch, nodes, outputs in STEPS:
        step, weights = step_of(batch, nodes, outputs)
        show(f"step of {batch} rows, {4 * nodes} features, {outputs} outputs", batch * weights, step, chosen)
    for rows, nodes in NODES:
        states = states_of(rows, nodes)
        show(f"states of {rows} rows, 8 steps, {nodes} nodes", rows * 8 * nodes * (nodes + 8), states, chosen)


def show(name: str, work: int, step: Callable[[], object], chosen: argparse.Namespace) -> None:
    """Measure one kind of step and print its line."""
    seconds: dict[int, list[float]] = {1: [], chosen.threads: []}
    for _ in range(chosen.repeats):
        for threads, found in seconds.items():
            with limit_threads(threads):
                step()
                count, started = 0, time.perf_counter()
                while time.perf_counter() - started < 0.2:
                    step()
                    count += 1
                found.append((time.perf_counter() - started) / count)
    one, several = (statistics.median(found) * 1e3 for found in seconds.values())
    ratio = statistics.median(b / a for a, b in zip(*seconds.values(), strict=True))
    print(f"{name:<46}{work / 1e6:>12.1f} M{one:>10.2f}{several:>10.2f}{ratio:>8.2f}", flush=True)


def step_of(batch: int, nodes: int, outputs: int) -> tuple[Callable[[], object], int]:
    """Return what takes a step, and the network's weights."""
    own = [f"reservoir.nodes={nodes}", f"readout.outputs={outputs}", f"readout.hidden={outputs}"]
    config = load_config("digits", ["reservoir.sequence=rows", "reservoir.kernel=dense-fp32", *own])
    source = make_source(config, [8, 8], torch.device("cpu"))
    network = build_network(config, [8, 8], source, classes=10, seed=0).train()
    rows = torch.rand(batch, source.width, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(batch) % 10
    network.standardise(rows.double().sum(0), rows.double().square().sum(0), batch)
    optimizer = torch.optim.AdamW(network.parameters())
    draw = SampleRng.at(0, 0, torch.arange(batch))

    def step() -> None:
        network.zero_grad()
        torch.nn.functional.cross_entropy(network(rows, draw), labels).backward()
        optimizer.step()

    return step, sum(weight.numel() for weight in network.parameters())


def states_of(rows: int, nodes: int) -> Callable[[], object]:
    """Return what computes the states of a block of images."""
    settings = ["reservoir.sequence=rows", "reservoir.kernel=dense-fp32", f"reservoir.batch_rows={min(rows, 1024)}"]
    config = load_config("digits", [f"reservoir.nodes={nodes}", *settings])
    source = make_source(config, [8, 8], torch.device("cpu"))
    samples = torch.rand(rows, 8, 8, generator=torch.Generator().manual_seed(0)).numpy()
    return lambda: source.states(samples)


if __name__ == "__main__":
    main()

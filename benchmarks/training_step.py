"""Cost of a training step of a profile with a trained extractor, in processor seconds of one thread.

    python benchmarks/training_step.py cifar10 [--rows 256] [--shape 32 32 3] [--set training.precision=fp32]

The program runs forward and backward passes of random images, without sums over ranks and optimiser. Processor seconds
depend little on other work on the machine. It prints the least of the repeats and the ten slowest operations.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch.profiler import profile

from rcdp_hpc.config import load_config
from rcdp_hpc.networks.assembly import build_network, make_source
from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.runtime.threads import limit_threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--shape", type=int, nargs="+", default=[32, 32, 3])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="SECTION.KEY=VALUE")
    chosen = parser.parse_args()
    with limit_threads(1):
        step = step_of(chosen)
        step()
        seconds = []
        for _ in range(chosen.repeats):
            started = time.process_time()
            step()
            seconds.append(time.process_time() - started)
        least = min(seconds)
        print(f"{least * 1e3:.0f} ms a step of {chosen.rows} images, {least / chosen.rows * 1e6:.0f} us each")
        with profile() as seen:
            step()
    print(seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=10, max_name_column_width=50))


def step_of(chosen: argparse.Namespace):
    """Return what takes a step."""
    config = load_config(chosen.profile, chosen.settings)
    source = make_source(config, chosen.shape, torch.device("cpu"))
    network = build_network(config, chosen.shape, source, classes=10, seed=0).train()
    samples = torch.rand(chosen.rows, source.width, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(chosen.rows) % 10
    network.standardise(samples.double().sum(0), samples.double().square().sum(0), chosen.rows)
    network.fit_patches([samples], lambda moments: moments)
    draw = SampleRng.at(0, 0, torch.arange(chosen.rows))

    def step() -> None:
        network.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.training.precision == "bf16"):
            scores = network(samples, draw)
        torch.nn.functional.cross_entropy(scores.float(), labels).backward()

    return step


if __name__ == "__main__":
    main()

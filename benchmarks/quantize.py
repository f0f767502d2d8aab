"""What weights of 8 bits cost, and what a network of a tenth of the size learns from a large one.

    python benchmarks/quantize.py [--mnist FOLDER] [--cifar FOLDER] [--seeds 1] [--quick] [--only digits]

Each case is trained in float32, then compressed in two ways: `rcdp compress --bits 8`, and `rcdp compress --distil
--keep 0.1`. The network of a tenth of the size is also trained without the teacher, for as many epochs. MNIST and
CIFAR-10 are left out without their folders; of CIFAR-10 a part of the images and a small convolution are used, so that
two cores take minutes. `--only cifar10-long` runs that profile as it is, which is for GPUs. With `--quick`, every case
has few samples and epochs: the figures mean nothing then. One thread.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rcdp_hpc.config import load_config
from rcdp_hpc.deploy.compress.result import CompressResult
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.pipeline.compression import compress
from rcdp_hpc.pipeline.stages import run_stages

COMMON = ["search.generations=0", "training.threads=1", "training.baseline=false", "run.progress=false"]
STAGES = ("prepare", "train", "evaluate")
DISTILLED = 0.1


@dataclass(frozen=True)
class Case:
    """A model that is compressed.

    Attributes
    ----------
    name, profile : str
    settings : sequence of str
        ``section.key=value``
    data : str
        The option that names its files; empty for data that come with a package.
    long : bool
        Whether it is only run if its name is chosen.
    """

    name: str
    profile: str
    settings: Sequence[str] = ()
    data: str = ""
    long: bool = False


CONVOLUTION = ["extractor.channels=[32, 64, 64]", "readout.outputs=64", "readout.hidden=64", "reservoir.nodes=300",
               "training.precision=fp32", "data.max_samples=8000", "training.epochs=8"]  # fmt: skip
CASES = (
    Case("digits, eq. 11", "digits"),
    Case("digits, ridge", "digits", ["readout.kind=ridge"]),
    Case("mnist, eq. 11", "mnist", ["reservoir.density=0.05", "data.max_samples=20000"], "mnist"),
    Case("mnist, ridge", "mnist-ridge", ["reservoir.nodes=300", "data.max_samples=20000"], "mnist"),
    Case("cifar10, convolutions", "cifar10", CONVOLUTION, "cifar"),
    Case("cifar10-long", "cifar10-long", [], "cifar", long=True),
)
QUICK = ["data.max_samples=400", "training.epochs=3", "reservoir.nodes=60", "training.batch=32"]


def settings_of(case: Case, seed: int, data: Path | None, quick: bool) -> list[str]:
    """Return the settings of a case."""
    own = [f"run.seed={seed}", f"reservoir.seed={seed}", *([f"data.path={data}"] if data else [])]
    return [*COMMON, *case.settings, *own, *(QUICK if quick else [])]


@dataclass
class Measurement:
    """The test accuracies and bytes of one seed; None for what a solved readout does not have."""

    rounded: CompressResult
    trained: bool
    distilled: CompressResult | None = None
    alone: float | None = None


def measured(case: Case, settings: Sequence[str], folder: Path) -> Measurement:
    """Train a case, round it, and train networks of a tenth of its size, with and without it as the teacher."""
    run = folder / "run"
    config = load_config(case.profile, settings)
    run_stages(STAGES, config, run)
    rounded = compress(run, folder / "rounded", bits=8)
    found = Measurement(rounded, trained=(folder / "rounded/float32.pt").exists())
    if config.readout.trained:
        found.distilled = compress(run, folder / "distilled", keep=DISTILLED, distil=True)
        small = ModelFile.read(folder / "distilled/train/model.pt").config
        widths = {
            "readout.outputs": small.readout.outputs,
            "readout.hidden": small.readout.hidden,
            "extractor.channels": small.extractor.channels,
        }
        changes = [f"{key}={value}" for key, value in widths.items()]
        found.alone = run_stages(STAGES, load_config(case.profile, [*settings, *changes]), folder / "alone")[
            "evaluate"
        ]["accuracy"]
    return found


def row(case: Case, found: Sequence[Measurement], seconds: float) -> str:
    """Return the line of a case: means over its seeds, accuracies in percent."""

    def mean(values: Sequence[float | None]) -> str:
        known = [value for value in values if value is not None]
        return f"{100 * np.mean(known):.2f}" if known else "-"

    before, after = ([getattr(one.rounded, name) for one in found] for name in ("before", "after"))
    small = [one.distilled.after for one in found if one.distilled is not None]
    cells = [
        case.name,
        mean([one.scores["accuracy"] for one in before]),
        mean([one.scores["accuracy"] for one in after]) + (" (trained)" if any(one.trained for one in found) else ""),
        f"{np.mean([one.size.bytes for one in before]):,.0f}",
        f"{np.mean([one.size.bytes for one in after]):,.0f}",
        mean([one.scores["accuracy"] for one in small]),
        mean([one.alone for one in found]),
        f"{np.mean([one.size.bytes for one in small]):,.0f}" if small else "-",
        f"{seconds:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("mnist", "cifar"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="cases whose names begin with this text")
    chosen = parser.parse_args()
    logging.getLogger("rcdp_hpc").setLevel(logging.ERROR)
    print(f"{chosen.seeds} seeds, test accuracy in %, bytes of the model file, seconds of all of it")
    print("| model | float32 | 8 bits | bytes | bytes, 8 bits | distilled, a tenth | without teacher | bytes | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in CASES:
        data = getattr(chosen, case.data) if case.data else None
        wanted = case.name.startswith(chosen.only) and (chosen.only == case.name or not case.long)
        if not wanted or (case.data and data is None):
            continue
        started, found = time.perf_counter(), []
        for seed in range(1, chosen.seeds + 1):
            with tempfile.TemporaryDirectory() as folder:
                found.append(measured(case, settings_of(case, seed, data, chosen.quick), Path(folder)))
        print(row(case, found, time.perf_counter() - started), flush=True)


if __name__ == "__main__":
    main()

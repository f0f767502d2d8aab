"""The method on one GPU, part by part, each next to the limit of the card. Made to take less than 8 minutes.

    python benchmarks/gpu.py --mnist FOLDER --cifar10 FOLDER [--parts states gram ...] [--wheels FOLDER]

The parts: peaks of the card; states of 70,000 images; sums, Cholesky decomposition and candidates of the ridge readout;
training steps, call by call, as recorded graphs and as a plain torch program; whole profiles with their accuracy; and
two ranks on the card, which must be refused. A part that fails is reported in the table, and the others go on. Without
data sets, whole profiles are left out, which the table says.

With ``--wheels``, packages that this Python lacks are installed from a folder of `make wheelhouse` into a temporary
folder first, so that the program runs on a machine that has only torch.

``--quick --device cpu`` runs all of it on small sizes, to test the program itself.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
# Packages besides torch that the stages import, by the name of their module.
NEEDED = {
    "numpy": "numpy", "scipy": "scipy", "sklearn": "scikit-learn", "imblearn": "imbalanced-learn", "h5py": "h5py",
    "tqdm": "tqdm", "pydantic": "pydantic", "tomlkit": "tomlkit", "psutil": "psutil", "threadpoolctl": "threadpoolctl",
}  # fmt: skip
# Rows of a training step of each profile, as in the comparison of docs/gpu.md.
STEPS = {"cifar10-long": 512, "mnist": 256, "mnist-convolution": 256}
PROFILES = {"mnist": "mnist", "mnist-ridge": "mnist", "cifar10-long": "cifar10"}


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes
    ----------
    part, what : str
    value : str
        The measured value with its unit.
    limit : str
        What the card allows, or what was asked for; empty if there is no such number.
    """

    part: str
    what: str
    value: str
    limit: str = ""


@dataclass
class Bench:
    """The device, the sizes, and the peaks that limits are computed from.

    Attributes
    ----------
    device : torch.device
    quick : bool
        Small sizes.
    folders : dict of str to str
        Folders of the data sets.
    peaks : dict of str to float
        Floating-point operations per second by number format.
    """

    device: Any
    quick: bool
    folders: dict[str, str]
    peaks: dict[str, float]

    def size(self, full: int, small: int) -> int:
        return small if self.quick else full

    def wait(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], object], repeats: int = 5) -> float:
        """Return the median seconds of a piece of work, after one that warms up."""
        work()
        self.wait()
        found = []
        for _ in range(1 if self.quick else repeats):
            started = time.perf_counter()
            work()
            self.wait()
            found.append(time.perf_counter() - started)
        return statistics.median(found)

    def limit(self, operations: float, number_format: str) -> float:
        """Return the least seconds of this number of operations; 0 if the peak was not measured."""
        peak = self.peaks.get(number_format, 0.0)
        return operations / peak if peak else 0.0


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds else ""


def against(bench: Bench, seconds: float, operations: float, number_format: str) -> str:
    """Return the limit of a piece of work and the share of it that was reached."""
    least = bench.limit(operations, number_format)
    return f"{milliseconds(least)} ({least / seconds:.0%} of the {number_format} peak)" if least else ""


# --- the parts ------------------------------------------------------------------------------------------------


def peaks(bench: Bench) -> Iterator[Row]:
    """Matrix products, copies and calls per second."""
    import torch

    size = bench.size(8192, 256)
    for name, dtype in (("float64", torch.float64), ("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        left, right = (torch.randn(size, size, device=bench.device).to(dtype) for _ in range(2))
        out = torch.empty_like(left)
        seconds = bench.seconds(lambda a=left, b=right, c=out: torch.mm(a, b, out=c))
        bench.peaks[name] = 2 * size**3 / seconds
        yield Row("peaks", f"product of {size} x {size}, {name}", f"{bench.peaks[name] / 1e12:.3g} TFLOP/s")
    values = torch.empty(bench.size(2**28, 2**20), device=bench.device)
    target = torch.empty_like(values)
    seconds = bench.seconds(lambda: target.copy_(values))
    yield Row("peaks", "copy within memory", f"{2 * 4 * len(values) / seconds / 1e9:.3g} GB/s")
    one, calls = torch.zeros(16, device=bench.device), bench.size(20_000, 500)

    def many() -> None:
        for _ in range(calls):
            one.add_(1.0)

    yield Row("peaks", "torch calls", f"{calls / bench.seconds(many, 3):,.0f} a second")


def states(bench: Bench) -> Iterator[Row]:
    """States of 70,000 images of 28 x 28 with every kernel of 16 bits that the device has."""
    import numpy as np
    import torch

    from rcdp_hpc.config import ReservoirSection
    from rcdp_hpc.reservoir.calibrate import choose_batch_rows
    from rcdp_hpc.reservoir.kernels import kernel_class
    from rcdp_hpc.reservoir.kernels.load import kernel_names
    from rcdp_hpc.reservoir.states import Reservoir

    rows, nodes = bench.size(70_000, 300), bench.size(1000, 60)
    x = np.random.default_rng(0).random((rows, 28, 28), dtype=np.float32)
    operations = 2.0 * rows * 28 * nodes * (nodes + 29)
    for kernel in kernel_names():
        cls = kernel_class(kernel)
        if cls.dtype != torch.bfloat16 or not cls.is_measured(nodes, 0.1, bench.device):
            continue
        block = choose_batch_rows(nodes, 28, kernel, os.cpu_count() or 1, str(bench.device))
        tree = {"nodes": nodes, "leak": 1.0, "density": 0.1, "batch_rows": block}
        reservoir = Reservoir(ReservoirSection.model_validate(tree), 28, kernel, bench.device)
        samples = torch.from_numpy(x).to(bench.device)
        out = torch.empty(rows, nodes, dtype=reservoir.dtype, device=bench.device)
        seconds = bench.seconds(lambda r=reservoir, s=samples, o=out: r.compute(s, out=o), 3)
        what = f"{rows:,} images, {nodes} nodes, {kernel}, blocks of {block}"
        yield Row("states", what, milliseconds(seconds), against(bench, seconds, operations, "bfloat16"))


def gram(bench: Bench) -> Iterator[Row]:
    """X'X of 8192 x 8000 states, and the solution of its normal equations."""
    import torch

    from rcdp_hpc.reservoir.device_sums import make_sums
    from rcdp_hpc.reservoir.ridge import solve

    rows, features = bench.size(8192, 128), bench.size(8000, 60)
    x = torch.randn(rows, features, device=bench.device).bfloat16()
    y = torch.nn.functional.one_hot(torch.arange(rows, device=bench.device) % 10, 10).float()
    for precision, number_format in (("double", "float64"), ("single", "bfloat16")):
        sums = make_sums(features, 10, precision, 2.0**40, device=bench.device)

        def add(into: Any = sums) -> None:
            into.add(x, y)
            into.flush()

        seconds = bench.seconds(add, 3)
        limit = against(bench, seconds, 1.0 * rows * features**2, number_format)
        yield Row("gram", f"X'X of {rows} x {features}, precision {precision}", milliseconds(seconds), limit)
    seconds = bench.seconds(lambda: solve(sums, 1e-3), 3)
    limit = against(bench, seconds, features**3 / 3, "float64")
    yield Row("gram", f"Cholesky and solution, {features} features", milliseconds(seconds), limit)


def candidates(bench: Bench) -> Iterator[Row]:
    """Candidates of the paper's search per second."""
    import numpy as np

    from rcdp_hpc.config import parse_config
    from rcdp_hpc.search.evaluation.batch import BatchedFitness
    from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
    from rcdp_hpc.search.evaluation.rows import FitnessData

    rows, held_out, nodes = bench.size(5000, 120), bench.size(2000, 60), bench.size(1000, 30)
    generator = np.random.default_rng(0)
    x = generator.random((rows + held_out, 28, 28), dtype=np.float32)
    y = np.arange(len(x)) % 10
    data = FitnessData(x[:rows], y[:rows], x[rows:], y[rows:], 10)
    for at_once in (1, bench.size(32, 4)):
        device = "gpu" if bench.device.type == "cuda" else "cpu"
        search = {"device": device, "candidates_at_once": at_once, "evaluation": "ridge"}
        reservoir = {"nodes": nodes, "kernel": "dense-bf16" if device == "gpu" else "dense-fp32"}
        config = parse_config({"reservoir": reservoir, "search": search}, "(of a benchmark)")
        fitness = (BatchedFitness if at_once > 1 else ReservoirFitness)(config, data)

        def evaluate(measured: Any = fitness, count: int = at_once) -> None:
            drawn = generator.uniform(0, 1, (count, 4)).tolist()
            names = ("density", "spectral_radius", "input_scaling", "leak")
            low, high = (0.01, 0.4, 0.1, 0.3), (0.5, 1.5, 1.0, 1.0)
            values = [
                {name: a + (b - a) * u for name, a, b, u in zip(names, low, high, one, strict=True)} for one in drawn
            ]
            found = measured.evaluate(values)
            wrong = [one.reason for one in found if one.reason]
            if wrong:
                raise RuntimeError(wrong[0])

        seconds = bench.seconds(evaluate, 5)
        rate = at_once / seconds
        what = f"{at_once} at once, {rows} + {held_out} rows, {nodes} nodes"
        yield Row("candidates", what, f"{rate:.3g} a second", "60 a second asked for")
        if at_once > 1:
            yield Row("candidates", "5,000 candidates of the paper's search", f"{5000 / rate:.0f} s", "90 s asked for")


def plain_steps(bench: Bench) -> Iterator[Row]:
    """Steps of a plain torch program, call by call and as a graph."""
    import torch
    from plain_step import plain_step

    rows = bench.size(512, 8)
    step = plain_step(rows, bench.device, bench.device.type == "cuda")
    yield Row("steps", f"plain torch program, {rows} rows, call by call", milliseconds(bench.seconds(step, 20)))
    if bench.device.type == "cuda":
        graph = torch.cuda.CUDAGraph()
        step()
        with torch.cuda.graph(graph):
            step()
        yield Row(
            "steps", f"plain torch program, {rows} rows, as a graph", milliseconds(bench.seconds(graph.replay, 20))
        )


def steps(bench: Bench) -> Iterator[Row]:
    """Training steps: as a plain torch program, and those of profiles, call by call and recorded."""
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    from step_calls import trainer_of

    from rcdp_hpc.config import load_config
    from rcdp_hpc.runtime.device import set_up_device

    yield from plain_steps(bench)
    # As in a run: with algorithms that repeat to the bit.
    set_up_device(bench.device, load_config("mnist"))
    count, batch = bench.size(100, 3), bench.size(0, 8)
    ways = ("off", "on") if bench.device.type == "cuda" else ("off",)
    for profile, rows in STEPS.items():
        for way in ways:
            settings = [f"training.graph={way}"]

            def seconds_of(number: int, name: str = profile, size: int = rows, given: tuple = tuple(settings)) -> float:
                trainer = trainer_of(name, number, given, str(bench.device), batch or size, bench.size(0, 30))
                bench.wait()
                started = time.perf_counter()
                trainer.run(lambda: None, lambda report: None)
                bench.wait()
                return time.perf_counter() - started

            seconds_of(count)
            # What an epoch does once does not count.
            few, more = seconds_of(count), seconds_of(3 * count)
            seconds = more / (3 * count) if bench.quick else (more - few) / (2 * count)
            shown = {"off": "call by call", "on": "as a graph"}[way]
            yield Row("steps", f"{profile}, {batch or rows} rows, {shown}", milliseconds(seconds))


def profiles(bench: Bench) -> Iterator[Row]:
    """Whole runs of profiles on one process."""
    goals = {"cifar10-long": "94 %, 20 s of epochs asked for", "mnist": "3 s of epochs asked for"}
    goals["mnist-ridge"] = "1.5 s asked for"
    for profile, data in PROFILES.items():
        folder = bench.folders.get(data)
        if not folder:
            yield Row("profiles", profile, "left out", f"needs --{data} FOLDER")
            continue
        with tempfile.TemporaryDirectory() as scratch:
            settings = [f"data.path={folder}"]
            if profile == "cifar10-long":
                settings.append("training.batch=512")
            if bench.quick:
                settings += ["training.epochs=2", "data.max_samples=600", "reservoir.nodes=30"]
            yield run_profile(profile, settings, Path(scratch) / "run", goals[profile])


def run_profile(profile: str, settings: list[str], out: Path, goal: str) -> Row:
    """Run a profile and return its line: seconds of its epochs or of its stage, and the test accuracy."""
    command = [sys.executable, "-m", "rcdp_hpc", "run", profile, "--out", str(out), "--quiet"]
    command += [part for setting in settings for part in ("--set", setting)]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    if done.returncode:
        return Row("profiles", profile, "failed", last_line(done.stderr or done.stdout))
    whole = time.perf_counter() - started
    accuracy = json.loads((out / "report" / "summary.json").read_text())["test"]["accuracy"]
    epochs = out / "train" / "metrics.jsonl"
    lines = epochs.read_text().splitlines() if epochs.exists() else []
    seconds = sum(json.loads(line)["seconds"] for line in lines)
    trained = f"{seconds:.3g} s of epochs" if lines else f"{stage_seconds(out):.3g} s of training"
    return Row("profiles", profile, f"{100 * accuracy:.2f} %, {trained}, {whole:.3g} s in all", goal)


def stage_seconds(out: Path) -> float:
    """Return the seconds of the training stage of a run."""
    found = json.loads((out / "state" / "train.json").read_text())
    return float(found["updated"] - found["started"])


def two_ranks(bench: Bench) -> Iterator[Row]:
    """Two ranks on one card, which NCCL cannot connect."""
    if bench.device.type != "cuda":
        yield Row("two ranks", "on one card", "left out", "needs a GPU")
        return
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command += ["-m", "rcdp_hpc", "run", "digits", "--out", f"{scratch}/run", "--set", "training.device=gpu"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False, timeout=240)
    said = next((line for line in (done.stdout + done.stderr).splitlines() if "GPU" in line and "rank" in line), "")
    refused = "refused" if done.returncode and said else "not refused"
    yield Row("two ranks", "on one card", refused, said[:100])


PARTS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "peaks": peaks,
    "states": states,
    "gram": gram,
    "candidates": candidates,
    "steps": steps,
    "profiles": profiles,
    "two-ranks": two_ranks,
}

# --- the program ----------------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    """Return variables with which a child process imports what this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1][:160]


def install_missing(wheels: str) -> None:
    """Install the packages that this Python lacks from a folder of wheels, for this process only."""
    missing = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    if not missing:
        return
    folder = tempfile.mkdtemp(prefix="rcdp-packages-")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--find-links", wheels, "--target", folder]
    subprocess.run([*command, *missing], check=True)
    sys.path.insert(1, folder)


def measure(bench: Bench, names: list[str]) -> list[Row]:
    """Run parts, print their lines as they come, and return them."""
    rows: list[Row] = []
    for name in names:
        started = time.perf_counter()
        try:
            for row in PARTS[name](bench):
                rows.append(row)
                print(f"{row.part}: {row.what}: {row.value}" + (f"; {row.limit}" if row.limit else ""), flush=True)
        except Exception as error:  # the other parts are worth measuring
            rows.append(Row(name, "failed", type(error).__name__, last_line(str(error))))
            print(f"{name}: failed: {type(error).__name__}: {last_line(str(error))}", flush=True)
        print(f"{name}: {time.perf_counter() - started:.1f} s", flush=True)
    return rows


def table(rows: list[Row]) -> str:
    """Return the rows as a table in Markdown."""
    lines = ["| part | what | measured | limit |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {row.part} | {row.what} | {row.value} | {row.limit} |" for row in rows)])


def versions(device: Any) -> str:
    """Return the device and the software of the measurement."""
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}, {os.cpu_count()} cores"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", default="", help="folder with MNIST (IDX)")
    parser.add_argument("--cifar10", default="", help="folder with the Python batches of CIFAR-10")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes, to test the program")
    parser.add_argument("--wheels", default="", help="folder of make wheelhouse")
    chosen = parser.parse_args(argv)
    if chosen.wheels:
        install_missing(chosen.wheels)
    sys.path.insert(0, str(REPOSITORY))
    import torch

    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --device cpu --quick tests the program")
    from rcdp_hpc.config import load_config
    from rcdp_hpc.runtime.device import set_workspaces

    device = torch.device("cuda", 0) if chosen.device == "cuda" else torch.device(chosen.device)
    if device.type == "cuda":
        set_workspaces(load_config("mnist"))
    started = time.perf_counter()
    bench = Bench(device, chosen.quick, {"mnist": chosen.mnist, "cifar10": chosen.cifar10}, {})
    print(versions(device), flush=True)
    rows = measure(bench, chosen.parts)
    print(f"\n{versions(device)}; {time.perf_counter() - started:.0f} s\n\n{table(rows)}")


if __name__ == "__main__":
    main()

"""Reservoir states: this engine's kernels, its peers, and the machine's own peak, in one table measured in one run.

    python benchmarks/reservoir.py [--sizes 1000:0.1 10000:0.01 ...] [--threads 2] [--data FOLDER]
                                   [--peers FOLDER] [--plot docs/reservoir.png]

Inputs are MNIST's rows (FOLDER holds train-images-idx3-ubyte.gz) or, without --data, random numbers of the same shape.
--peers makes a virtual environment in FOLDER, which must not be that of this package, installs ReservoirPy 0.4.2 and
PyRCN there, and measures them too, on fewer samples; arrays are exchanged through files.

All kernels take turns, so that a disturbance from outside hits them all; the shortest time of each counts. A state
update moves all neurons of one sample by one step and counts as 2 · nodes · (nodes + features) operations, whatever the
kernel does of them; the percentage is of the best square matrix product of that dtype measured in the same run.
"""

from __future__ import annotations

import argparse
import gzip
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.cells import fused_available
from rcdp_hpc.reservoir.states import KERNELS, Reservoir
from rcdp_hpc.runtime.threads import limit_threads

STEPS, FEATURES = 28, 28
PEERS = ("reservoirpy==0.4.2", "PyRCN")
SPARSE_AT_MOST = 0.05
Row = tuple[str, float, float, float, float]


def inputs(folder: str, rows: int) -> np.ndarray:
    """Return (rows, 28, 28) values in [0, 1]."""
    if not folder:
        return np.random.default_rng(0).random((rows, STEPS, FEATURES), dtype=np.float32)
    with gzip.open(Path(folder) / "train-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(16 + rows * 784), np.uint8, offset=16)
    return pixels.reshape(-1, 28, 28).astype(np.float32) / 255


def fastest(work: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Return the shortest of `turns` times of each, taken in turns after one that warms up."""
    best = dict.fromkeys(work, float("inf"))
    for turn in range(turns + 1):
        for name, call in work.items():
            started = time.perf_counter()
            call()
            if turn:
                best[name] = min(best[name], time.perf_counter() - started)
    return best


def products(device: torch.device) -> tuple[dict[str, Callable[[], object]], dict[str, float]]:
    """Return square matrix products by dtype, and their operations."""
    work: dict[str, Callable[[], object]] = {}
    operations = {}
    for name, dtype, size in (("float32", torch.float32, 1024), ("bfloat16", torch.bfloat16, 2048)):
        left, right = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
        out = torch.empty(size, size, dtype=dtype, device=device)
        work[f"peak {name}"] = lambda left=left, right=right, out=out: torch.mm(left, right, out=out)
        operations[f"peak {name}"] = 2.0 * size**3
    return work, operations


def plain_loop(reservoir: Reservoir, u: torch.Tensor) -> torch.Tensor:
    """Return the last states by the loop that everyone writes."""
    found = reservoir.matrices[0][0]
    recurrent, weights, bias = (
        torch.from_numpy(array).float() for array in (found.recurrent.toarray(), found.input, found.bias)
    )
    state = torch.zeros(len(u), reservoir.nodes)
    for step in range(u.shape[1]):
        state = torch.tanh(state @ recurrent.T + u[:, step] @ weights.T + bias)
    return state


def torch_rnn(reservoir: Reservoir) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return torch.nn.RNN with the same weights."""
    found = reservoir.matrices[0][0]
    network = torch.nn.RNN(reservoir.features, reservoir.nodes, batch_first=True)
    with torch.no_grad():
        network.weight_hh_l0.copy_(torch.from_numpy(found.recurrent.toarray()))
        network.weight_ih_l0.copy_(torch.from_numpy(found.input))
        network.bias_ih_l0.copy_(torch.from_numpy(found.bias))
        network.bias_hh_l0.zero_()
    return lambda u: network(u)[0][:, -1]


def measure(nodes: int, density: float, options: argparse.Namespace, peers: Path | None) -> list[Row]:
    """Return (name, updates a second, share of the peak, MB per block, largest difference from dense-fp32)."""
    settings = ReservoirSection.model_validate({"nodes": nodes, "density": density, "leak": options.leak})
    rows = max(64, min(options.rows, 2_000_000_000 // (nodes * nodes)))
    u = torch.from_numpy(inputs(options.data, rows))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    reservoirs = {}
    matrices = None
    for kernel in KERNELS:
        if (
            (kernel == "fused-bf16" and not fused_available(device))
            or (kernel == "dense-fp16" and device.type == "cpu")
            or (kernel == "sparse-fp32" and density > SPARSE_AT_MOST)
        ):
            continue
        reservoirs[kernel] = Reservoir(settings, FEATURES, kernel, device, matrices)
        matrices = reservoirs[kernel].matrices[0][0]
    first = reservoirs["dense-fp32"]

    def states(reservoir: Reservoir) -> torch.Tensor:
        found = reservoir.states(u)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return found

    work, operations = products(device)
    work |= {name: lambda r=reservoir: states(r) for name, reservoir in reservoirs.items()}
    with torch.no_grad():
        if nodes <= 2000 and device.type == "cpu" and options.leak == 1:
            network = torch_rnn(first)
            work["plain torch loop"] = lambda: plain_loop(first, u)
            work["torch.nn.RNN"] = lambda: network(u)
        seconds = fastest(work, options.turns)
        exact = states(first).float()
        answers = {name: work[name]() for name in work if not name.startswith("peak")}
    table: list[Row] = []
    for name, taken in seconds.items():
        if name.startswith("peak"):
            print(f"| {name}: {operations[name] / taken / 1e9:.0f} GFLOP/s | | | | |")
            continue
        dtype = "bfloat16" if name.endswith(("bf16", "fp16")) else "float32"
        peak = operations[f"peak {dtype}"] / seconds[f"peak {dtype}"]
        updates = rows * STEPS / taken
        share = updates * 2 * nodes * (nodes + FEATURES) / peak
        size = 2 if dtype == "bfloat16" else 4
        weights = nodes * nodes * (density * 12 if name.startswith("sparse") else size)
        difference = float((answers[name].float() - exact).abs().max())
        table.append((name, updates, share, (weights + rows * nodes * 12) / 1e6, difference))
        if name == "sparse-fp32":
            traffic = (density * nodes * nodes * 12 + rows * nodes * 4 * (density * nodes + 2)) * STEPS / taken / 1e9
            print(f"| sparse-fp32 moves {traffic:.1f} GB/s between matrix, states and cores | | | | |")
    show(table)
    if peers is not None and nodes <= 1000:
        compared = measure_peers(peers, first, u, exact, options)
        show(compared)
        table += compared
    return table


def show(table: list[Row]) -> None:
    """Print rows of the table."""
    for name, updates, share, size_mb, difference in table:
        cells = (name, f"{updates:,.0f}", f"{100 * share:.0f} %", f"{size_mb:.0f}", f"{difference:.1g}")
        print(f"| {' | '.join(cells)} |", flush=True)


def measure_peers(
    python: Path, reservoir: Reservoir, u: torch.Tensor, exact: torch.Tensor, options: argparse.Namespace
) -> list[Row]:
    """Run the peers on some of the samples in their own interpreter."""
    found = reservoir.matrices[0][0]
    count = min(options.peer_rows, len(u))
    with tempfile.TemporaryDirectory() as folder:
        given, answer = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(
            given, recurrent=found.recurrent.toarray(), input=found.input, bias=found.bias, u=u[:count].numpy(),
            leak=options.leak, workers=options.threads,
        )  # fmt: skip
        script = Path(__file__).with_name("reservoir_peers.py")
        subprocess.run([python, script, given, answer], check=True)
        results = dict(np.load(answer))
    table = []
    for name in ("reservoirpy", "pyrcn"):
        if f"{name}_error" in results:
            print(f"{name}: {results[f'{name}_error']}")
            continue
        difference = np.abs(results[f"{name}_states"] - exact[:count].cpu().numpy()).max()
        table.append((name, count * STEPS / float(results[f"{name}_seconds"]), float("nan"), float("nan"), difference))
    return table


def peers_python(folder: Path) -> Path:
    """Return the interpreter of the peers' virtual environment, made where it is missing."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"making a virtual environment for {' and '.join(PEERS)} in {folder}")
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEERS], check=True)
    return python


def plot(path: Path, tables: dict[str, list[Row]]) -> None:
    """Draw the state updates a second."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.5 + 0.35 * sum(map(len, tables.values()))), layout="constrained")
    axes = figure.subplots()
    bars = [(f"{name}, {size}", row[1]) for size, table in tables.items() for row in table for name in (row[0],)]
    axes.barh([label for label, _ in bars][::-1], [value for _, value in bars][::-1])
    axes.set(xscale="log", xlabel="state updates a second")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["100:1", "1000:0.1", "2000:0.02", "10000:0.01"])
    parser.add_argument("--data", default="", help="folder of MNIST's files")
    parser.add_argument("--rows", type=int, default=2048, help="samples of a block, fewer for large reservoirs")
    parser.add_argument("--leak", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--peers", default="", help="folder of the peers' virtual environment")
    parser.add_argument("--peer-rows", type=int, default=200)
    parser.add_argument("--plot", default="", help="PNG to draw")
    options = parser.parse_args()
    peers = peers_python(Path(options.peers)) if options.peers else None
    tables = {}
    with limit_threads(options.threads):
        for size in options.sizes:
            nodes, density = size.split(":")
            print(f"\n{nodes} nodes, density {density}, {options.threads} threads", flush=True)
            print("| kernel | state updates a second | of peak | MB | largest difference |\n|---|---|---|---|---|")
            tables[size] = measure(int(nodes), float(density), options, peers)
    if options.plot:
        plot(Path(options.plot), tables)


if __name__ == "__main__":
    sys.exit(main())

"""Reservoir states: this engine's kernels, its peers, and the machine's own peak, in one table measured in one run.

    python benchmarks/reservoir.py [--sizes 1000:0.1 10000:0.01 ...] [--threads 2] [--data FOLDER]
                                   [--peers FOLDER] [--plot docs/images/reservoir.png]
    python benchmarks/reservoir.py --gram --data FOLDER      # what Gram sums cost beside bare states, and the memory
    python benchmarks/reservoir.py --radius                  # seconds and accuracy of a large spectral radius

Inputs are MNIST's rows (FOLDER holds its four gz files) or, without --data, random numbers of the same shape.
--peers makes a virtual environment in FOLDER, which must not be that of this package, installs ReservoirPy 0.4.2 and
PyRCN there, and measures them too, on fewer samples; arrays are exchanged through files.

All kernels take turns, so that a disturbance from outside hits them all; the shortest time of each counts. A state
update moves all neurons of one sample by one step and counts as 2 · nodes · (nodes + features) operations, whatever the
kernel does of them; the percentage is of the best square matrix product of that dtype measured in the same run. The
memory is what building the kernel and computing one block need at their peak beyond what is resident before; of peers,
what all their processes do. The sparse kernel is held against the bandwidth of adding two arrays of 256 MB, measured in
the same run: for each connection it touches 12 bytes of the matrix and 4 bytes of state per sample, part of it in
caches.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from reservoir_gram import gram, radius
from reservoir_inputs import FEATURES, STEPS, images
from reservoir_memory import extra_mb

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.connection import reservoir_matrices
from rcdp_hpc.reservoir.kernels import kernel_names
from rcdp_hpc.reservoir.kernels.fused import fused_available
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.runtime.threads import limit_threads

PEERS = ("reservoirpy==0.4.2", "PyRCN")
NEEDED = ("scikit-learn>=1.6", "pandas")
SPARSE_AT_MOST = 0.05
SIZES = ["100:1", "100:0.1", "1000:1", "1000:0.1", "1000:0.01", "3000:0.1", "10000:0.01"]
PRODUCTS = {"cpu": (1024, 2048), "cuda": (4096, 8192)}
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
Row = tuple[str, float, float, float, float]


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
    """Return square matrix products by dtype and size, and their operations."""
    work: dict[str, Callable[[], object]] = {}
    operations = {}
    for dtype in (torch.float32, torch.bfloat16, *([torch.float16] if device.type == "cuda" else [])):
        for size in PRODUCTS[device.type]:
            left, right = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
            name = f"peak {str(dtype).removeprefix('torch.')} {size}"
            work[name] = lambda left=left, right=right: synchronised(torch.mm(left, right))
            operations[name] = 2.0 * size**3
    return work, operations


def synchronised(found: torch.Tensor) -> torch.Tensor:
    """Return the tensor once it is computed."""
    if found.device.type == "cuda":
        torch.cuda.synchronize(found.device)
    return found


def peaks(seconds: dict[str, float], operations: dict[str, float]) -> dict[str, float]:
    """Return the best operations a second of each dtype."""
    found: dict[str, float] = {}
    for name, count in operations.items():
        dtype = name.split()[1]
        found[dtype] = max(found.get(dtype, 0.0), count / seconds[name])
    return found


def bandwidth(device: torch.device) -> float:
    """Return the bytes a second of c = a + b over 256 MB each."""
    first, second, out = (torch.ones(1 << 26, device=device) for _ in range(3))
    taken = fastest({"add": lambda: synchronised(torch.add(first, second, out=out))}, 5)["add"]
    return 3 * 4 * (1 << 26) / taken


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
    """Return (name, updates a second, share of the peak, MB, largest difference from dense-fp32)."""
    settings = ReservoirSection.model_validate({"nodes": nodes, "density": density, "leak": options.leak})
    rows = max(64, min(options.rows, options.work // (nodes * nodes)))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    u = torch.from_numpy(images(options.data, rows).astype(np.float32) / 255).to(device)
    matrices = reservoir_matrices(settings, FEATURES)
    built = {
        kernel: lambda kernel=kernel: Reservoir(settings, FEATURES, kernel, device, matrices)
        for kernel in kernels_for(density, device)
    }
    memory = {name: memory_of(lambda make=make: make().states(u), device) for name, make in built.items()}
    reservoirs = {name: make() for name, make in built.items()}
    work, operations = products(device)
    work |= {name: lambda found=found: synchronised(found.states(u)) for name, found in reservoirs.items()}
    first = reservoirs["dense-fp32"]
    with torch.no_grad():
        if nodes <= 3000 and device.type == "cpu" and options.leak == 1:
            work |= by_torch(first, u)
            memory |= {name: memory_of(call, device) for name, call in by_torch(first, u).items()}
        seconds = fastest(work, options.turns)
        exact = first.states(u).float()
        differences = {name: difference(work[name](), exact) for name in memory}
    best = peaks(seconds, operations)
    print("peak: " + ", ".join(f"{dtype} {rate / 1e9:.0f} GFLOP/s" for dtype, rate in best.items()))
    table: list[Row] = []
    for name in memory:
        updates = rows * STEPS / seconds[name]
        dtype = DTYPES.get(name.split("-")[-1], "float32")
        share = updates * 2 * nodes * (nodes + FEATURES) / best[dtype]
        table.append((name, updates, share, memory[name], differences[name]))
    show(table)
    if "sparse-fp32" in seconds:
        show_traffic(matrices.recurrent.nnz, nodes, rows, seconds["sparse-fp32"] / STEPS, bandwidth(device))
    if peers is not None and nodes <= options.peer_nodes:
        compared = measure_peers(peers, first, u, exact, options)
        show(compared)
        table += compared
    return table


def kernels_for(density: float, device: torch.device) -> list[str]:
    """Return the kernels that this device has, the sparse one where the matrix is thin."""
    left_out = set()
    if device.type == "cpu":
        left_out.add("dense-fp16")
    if not fused_available(device):
        left_out.add("fused-bf16")
    if density > SPARSE_AT_MOST:
        left_out.add("sparse-fp32")
    return [kernel for kernel in kernel_names() if kernel not in left_out]


def memory_of(work: Callable[[], object], device: torch.device) -> float:
    """Return the MB that some work needs at its peak."""
    if device.type == "cpu":
        return extra_mb(work)[1]
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    return (torch.cuda.max_memory_allocated(device) - before) / 1e6


def by_torch(reservoir: Reservoir, u: torch.Tensor) -> dict[str, Callable[[], torch.Tensor]]:
    """Return the same reservoir as a plain loop and as torch's own network."""
    network = torch_rnn(reservoir)
    return {"plain torch loop": lambda: plain_loop(reservoir, u), "torch.nn.RNN": lambda: network(u)}


def difference(found: object, exact: torch.Tensor) -> float:
    """Return the largest difference of states."""
    assert isinstance(found, torch.Tensor)
    return float((found.float() - exact).abs().max())


def show_traffic(connections: int, nodes: int, rows: int, seconds: float, limit: float) -> None:
    """Print what the sparse kernel moves in a step, as a share of the memory's bandwidth."""
    least = 12 * connections + 2 * 4 * nodes * rows
    touched = least + 4 * connections * rows
    print(
        f"sparse-fp32 touches {touched / seconds / 1e9:.1f} GB/s, {100 * touched / seconds / limit:.0f} % of the "
        f"memory's {limit / 1e9:.1f} GB/s; the matrix and the states once each are "
        f"{100 * least / seconds / limit:.1f} %"
    )


def show(table: list[Row]) -> None:
    """Print rows of the table, with its head."""
    print("| kernel | state updates a second | of peak | MB | largest difference |\n|---|---|---|---|---|")
    for name, updates, share, size_mb, difference in table:
        of_peak = "" if np.isnan(share) else f"{100 * share:.0f} %"
        cells = (name, f"{updates:,.0f}", of_peak, f"{size_mb:.0f}", f"{difference:.1g}")
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
            given, recurrent=found.recurrent.toarray(), input=found.input, bias=found.bias, u=u[:count].cpu().numpy(),
            leak=options.leak, workers=options.threads,
        )  # fmt: skip
        script = Path(__file__).with_name("reservoir_peers.py")
        # The peers' worker processes look for the script's own modules there.
        environment = {**os.environ, "PYTHONPATH": str(script.parent)}
        subprocess.run([python, script, given, answer], check=True, env=environment)
        results = dict(np.load(answer))
    table = []
    for name in ("reservoirpy", "pyrcn"):
        if f"{name}_error" in results:
            print(f"{name}: {results[f'{name}_error']}")
            continue
        difference = np.abs(results[f"{name}_states"] - exact[:count].cpu().numpy()).max()
        updates = count * STEPS / float(results[f"{name}_seconds"])
        table.append((name, updates, float("nan"), float(results[f"{name}_mb"]), difference))
    return table


def peers_python(folder: Path) -> Path:
    """Return the interpreter of the peers' virtual environment, made where it is missing."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"making a virtual environment for {' and '.join(PEERS)} in {folder}")
        venv.create(folder, with_pip=True)
        install = [python, "-m", "pip", "install", "-q"]
        subprocess.run([*install, PEERS[0], *NEEDED], check=True)
        subprocess.run([*install, "--no-deps", PEERS[1]], check=True)
        # PyRCN asks for torch, and PyPI's comes with gigabytes for GPUs: this environment's own is at hand.
        packages = next(folder.glob("lib/python*/site-packages"))
        (packages / "torch_from_outside.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return python


def plot(path: Path, tables: dict[str, list[Row]]) -> None:
    """Draw the state updates a second, a panel for each size."""
    from matplotlib.figure import Figure

    path.parent.mkdir(parents=True, exist_ok=True)
    heights = [len(table) for table in tables.values()]
    figure = Figure(figsize=(8, 0.8 + 0.3 * sum(heights) + 0.35 * len(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (size, table) in zip(panels, tables.items(), strict=True):
        names, rates = [row[0] for row in reversed(table)], [row[1] for row in reversed(table)]
        bars = axes.barh(names, rates, color=["tab:blue" if name in kernel_names() else "tab:gray" for name in names])
        axes.bar_label(bars, [f" {rate:,.0f}" for rate in rates], fontsize=8)
        axes.set(xscale="log", xlim=(100, 1e8))
        axes.set_title(size, fontsize=9, loc="left")
        axes.grid(axis="x", alpha=0.3)
    panels[-1].set_xlabel("state updates a second")
    figure.savefig(path, dpi=110)


def default_sizes(options: argparse.Namespace) -> list[str]:
    """Return the sizes where none are named."""
    if options.gram:
        return ["1000:0.1"]
    return ["10000:0.01"] if options.radius else SIZES


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=[], help="nodes:density, several")
    parser.add_argument("--gram", action="store_true", help="Gram sums beside bare states instead of the table")
    parser.add_argument("--radius", action="store_true", help="the spectral radius instead of the table")
    parser.add_argument("--images", type=int, default=70_000, help="images for --gram")
    parser.add_argument("--kernel", default="", help="kernel for --gram; left out, it is measured")
    parser.add_argument("--work", type=int, default=20_000_000_000, help="rows · nodes² of a block at most")
    parser.add_argument("--data", default="", help="folder of MNIST's files")
    parser.add_argument("--rows", type=int, default=2048, help="samples of a block, fewer for large reservoirs")
    parser.add_argument("--leak", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--peers", default="", help="folder of the peers' virtual environment")
    parser.add_argument("--peer-rows", type=int, default=200)
    parser.add_argument("--peer-nodes", type=int, default=1000, help="the largest reservoir for the peers")
    parser.add_argument("--plot", default="", help="PNG to draw")
    options = parser.parse_args()
    sizes = [size.split(":") for size in options.sizes or default_sizes(options)]
    peers = peers_python(Path(options.peers)) if options.peers else None
    tables = {}
    with limit_threads(options.threads):
        for nodes, density in ((int(nodes), float(density)) for nodes, density in sizes):
            if options.gram:
                gram(nodes, density, options)
            elif options.radius:
                radius(nodes, density, options.turns)
            else:
                print(f"\n{nodes} nodes, density {density:g}, {options.threads} threads", flush=True)
                tables[f"{nodes} nodes, density {density:g}"] = measure(nodes, density, options, peers)
    if options.plot and tables:
        plot(Path(options.plot), tables)


if __name__ == "__main__":
    sys.exit(main())

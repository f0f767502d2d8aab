"""Speed of reservoir states: the kernels of this package, other packages, and the peak of the machine, in one table.

    python benchmarks/reservoir.py [--sizes 1000:0.1 10000:0.01 ...] [--threads 2] [--data FOLDER]
                                   [--peers FOLDER] [--plot docs/images/reservoir.png]
    python benchmarks/reservoir.py --gram --data FOLDER      # cost of Gram sums compared with states alone; memory
    python benchmarks/reservoir.py --solvers                 # sums and solutions by BLAS, and by torch on the GPU
    python benchmarks/reservoir.py --radius                  # seconds and accuracy of a large spectral radius

Inputs are the rows of MNIST's images (FOLDER holds its four gz files) or, without --data, random numbers of the same
shape. --peers creates a virtual environment in FOLDER, which must not be that of this package, installs ReservoirPy
0.4.2 and PyRCN there, and measures them on fewer samples.

All kernels take turns, so that other load affects all of them; the shortest time of each counts. A state update, one
step of all neurons of one sample, counts as 2 · nodes · (nodes + features) operations for every kernel. The percentage
is relative to the best square matrix product of that number format in the same run. The memory is the peak of building
the kernel and computing one block, minus the resident memory before; for other packages, that of all their processes.
The sparse kernel is compared with the bandwidth of adding two arrays of 256 MB in the same run: for each connection it
reads 12 bytes of the matrix and 4 bytes of state per sample, part of it from caches.
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
from reservoir_gram import backends, gram, radius
from reservoir_inputs import FEATURES, STEPS, images
from reservoir_memory import extra_mb

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.connection import reservoir_matrices
from rcdp_hpc.reservoir.kernels import kernel_class, kernel_names
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.runtime.threads import limit_threads

PEERS = ("reservoirpy==0.4.2", "PyRCN")
NEEDED = ("scikit-learn>=1.6", "pandas")
LARGE = 10_000
SIZES = ["100:1", "100:0.1", "1000:1", "1000:0.1", "1000:0.01", "3000:0.1", "10000:0.01"]
PRODUCTS = {"cpu": (1024, 2048), "cuda": (4096, 8192)}
Row = tuple[str, float, float, float, float]


def fastest(work: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Return the shortest of `turns` times of each, measured in turns after a turn that warms up."""
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


def synchronised(result: torch.Tensor) -> torch.Tensor:
    """Return the tensor after its device has computed it."""
    if result.device.type == "cuda":
        torch.cuda.synchronize(result.device)
    return result


def peaks(seconds: dict[str, float], operations: dict[str, float]) -> dict[str, float]:
    """Return the largest number of operations per second of each dtype."""
    best: dict[str, float] = {}
    for name, count in operations.items():
        dtype = name.split()[1]
        best[dtype] = max(best.get(dtype, 0.0), count / seconds[name])
    return best


def bandwidth(device: torch.device) -> float:
    """Return the bytes per second of c = a + b for arrays of 256 MB."""
    first, second, out = (torch.ones(1 << 26, device=device) for _ in range(3))
    seconds = fastest({"add": lambda: synchronised(torch.add(first, second, out=out))}, 5)["add"]
    return 3 * 4 * (1 << 26) / seconds


def plain_loop(reservoir: Reservoir, u: torch.Tensor) -> torch.Tensor:
    """Return the last states by a loop over the steps without further measures."""
    matrices = reservoir.matrices[0][0]
    recurrent, weights, bias = (
        torch.from_numpy(array).float() for array in (matrices.recurrent.toarray(), matrices.input, matrices.bias)
    )
    state = torch.zeros(len(u), reservoir.nodes)
    for step in range(u.shape[1]):
        state = torch.tanh(state @ recurrent.T + u[:, step] @ weights.T + bias)
    return state


def torch_rnn(reservoir: Reservoir) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return torch.nn.RNN with the same weights."""
    matrices = reservoir.matrices[0][0]
    network = torch.nn.RNN(reservoir.features, reservoir.nodes, batch_first=True)
    with torch.no_grad():
        network.weight_hh_l0.copy_(torch.from_numpy(matrices.recurrent.toarray()))
        network.weight_ih_l0.copy_(torch.from_numpy(matrices.input))
        network.bias_ih_l0.copy_(torch.from_numpy(matrices.bias))
        network.bias_hh_l0.zero_()
    return lambda u: network(u)[0][:, -1]


def measure(nodes: int, density: float, options: argparse.Namespace, peers: Path | None) -> list[Row]:
    """Return rows (name, updates per second, share of the peak, MB, largest difference from dense-fp32)."""
    settings = ReservoirSection.model_validate({"nodes": nodes, "density": density, "leak": options.leak})
    rows = max(64, min(options.rows, options.work // (nodes * nodes)))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    u = torch.from_numpy(images(options.data, rows).astype(np.float32) / 255).to(device)
    matrices = reservoir_matrices(settings, FEATURES)
    built = {
        kernel: lambda kernel=kernel: Reservoir(settings, FEATURES, kernel, device, matrices)
        for kernel in kernels_for(density, device)
    }
    memory = {name: memory_of(lambda build=build: build().states(u), device) for name, build in built.items()}
    reservoirs = {name: build() for name, build in built.items()}
    work, operations = products(device)
    work |= {name: lambda each=each: synchronised(each.states(u)) for name, each in reservoirs.items()}
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
        dtype = str(reservoirs[name].dtype).removeprefix("torch.") if name in reservoirs else "float32"
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
    """Return the kernels that ``reservoir.kernel = "auto"`` measures for a large reservoir on this device."""
    return [kernel for kernel in kernel_names() if kernel_class(kernel).is_measured(LARGE, density, device)]


def memory_of(work: Callable[[], object], device: torch.device) -> float:
    """Return the peak memory of a function in MB, minus the memory before."""
    if device.type == "cpu":
        return extra_mb(work)[1]
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    return (torch.cuda.max_memory_allocated(device) - before) / 1e6


def by_torch(reservoir: Reservoir, u: torch.Tensor) -> dict[str, Callable[[], torch.Tensor]]:
    """Return the same reservoir as a loop in torch and as torch.nn.RNN."""
    network = torch_rnn(reservoir)
    return {"plain torch loop": lambda: plain_loop(reservoir, u), "torch.nn.RNN": lambda: network(u)}


def difference(states: object, exact: torch.Tensor) -> float:
    """Return the largest absolute difference of states."""
    assert isinstance(states, torch.Tensor)
    return float((states.float() - exact).abs().max())


def show_traffic(connections: int, nodes: int, rows: int, seconds: float, limit: float) -> None:
    """Print the bytes that the sparse kernel reads and writes per second, as a share of the memory's bandwidth."""
    least = 12 * connections + 2 * 4 * nodes * rows
    touched = least + 4 * connections * rows
    print(
        f"sparse-fp32 touches {touched / seconds / 1e9:.1f} GB/s, {100 * touched / seconds / limit:.0f} % of the "
        f"memory's {limit / 1e9:.1f} GB/s; the matrix and the states once each are "
        f"{100 * least / seconds / limit:.1f} %"
    )


def show(table: list[Row]) -> None:
    """Print the rows as a table."""
    print("| kernel | state updates per second | of peak | MB | largest difference |\n|---|---|---|---|---|")
    for name, updates, share, size_mb, difference in table:
        of_peak = "" if np.isnan(share) else f"{100 * share:.0f} %"
        cells = (name, f"{updates:,.0f}", of_peak, f"{size_mb:.0f}", f"{difference:.1g}")
        print(f"| {' | '.join(cells)} |", flush=True)


def measure_peers(
    python: Path, reservoir: Reservoir, u: torch.Tensor, exact: torch.Tensor, options: argparse.Namespace
) -> list[Row]:
    """Measure the other packages on the first samples, in their own interpreter."""
    matrices = reservoir.matrices[0][0]
    count = min(options.peer_rows, len(u))
    with tempfile.TemporaryDirectory() as folder:
        task, answer = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(
            task, recurrent=matrices.recurrent.toarray(), input=matrices.input, bias=matrices.bias,
            u=u[:count].cpu().numpy(), leak=options.leak, workers=options.threads,
        )  # fmt: skip
        script = Path(__file__).with_name("reservoir_peers.py")
        # The worker processes import the modules next to the script.
        environment = {**os.environ, "PYTHONPATH": str(script.parent)}
        subprocess.run([python, script, task, answer], check=True, env=environment)
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
    """Return the interpreter of the other packages' virtual environment, and create it if it does not exist."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"creating a virtual environment for {' and '.join(PEERS)} in {folder}")
        venv.create(folder, with_pip=True)
        install = [python, "-m", "pip", "install", "-q"]
        subprocess.run([*install, PEERS[0], *NEEDED], check=True)
        subprocess.run([*install, "--no-deps", PEERS[1]], check=True)
        # PyRCN requires torch, which needs gigabytes on PyPI: it uses that of this environment.
        packages = next(folder.glob("lib/python*/site-packages"))
        (packages / "torch_from_outside.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return python


def plot(path: Path, tables: dict[str, list[Row]]) -> None:
    """Draw the state updates per second, with a panel for each size."""
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
    panels[-1].set_xlabel("state updates per second")
    figure.savefig(path, dpi=110)


def default_sizes(options: argparse.Namespace) -> list[str]:
    """Return the sizes to measure without --sizes."""
    if options.gram or options.solvers:
        return ["1000:0.1"]
    return ["10000:0.01"] if options.radius else SIZES


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=[], help="nodes:density, several")
    parser.add_argument("--gram", action="store_true", help="measure Gram sums instead")
    parser.add_argument(
        "--solvers", action="store_true", help="measure sums and solutions by BLAS and by torch instead"
    )
    parser.add_argument("--radius", action="store_true", help="measure the spectral radius instead")
    parser.add_argument("--images", type=int, default=70_000, help="images for --gram")
    parser.add_argument("--kernel", default="", help="kernel for --gram (default: the fastest one)")
    parser.add_argument("--work", type=int, default=20_000_000_000, help="largest rows · nodes² of a block")
    parser.add_argument("--data", default="", help="folder of MNIST's files")
    parser.add_argument("--rows", type=int, default=2048, help="samples of a block, fewer for large reservoirs")
    parser.add_argument("--leak", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--peers", default="", help="folder of the virtual environment of other packages")
    parser.add_argument("--peer-rows", type=int, default=200)
    parser.add_argument("--peer-nodes", type=int, default=1000, help="largest reservoir for other packages")
    parser.add_argument("--plot", default="", help="PNG to draw")
    options = parser.parse_args()
    sizes = [size.split(":") for size in options.sizes or default_sizes(options)]
    peers = peers_python(Path(options.peers)) if options.peers else None
    tables = {}
    with limit_threads(options.threads):
        for nodes, density in ((int(nodes), float(density)) for nodes, density in sizes):
            if options.gram:
                gram(nodes, density, options)
            elif options.solvers:
                backends(nodes, options.turns)
            elif options.radius:
                radius(nodes, density, options.turns)
            else:
                print(f"\n{nodes} nodes, density {density:g}, {options.threads} threads", flush=True)
                tables[f"{nodes} nodes, density {density:g}"] = measure(nodes, density, options, peers)
    if options.plot and tables:
        plot(Path(options.plot), tables)


if __name__ == "__main__":
    sys.exit(main())

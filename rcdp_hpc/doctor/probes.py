"""What doctor tries, each in a process of its own."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

Facts = dict[str, Any]

CORE_PACKAGES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "imblearn": "imbalanced-learn",
    "h5py": "h5py",
    "tqdm": "tqdm",
    "pydantic": "pydantic",
    "tomlkit": "tomlkit",
    "psutil": "psutil",
    "threadpoolctl": "threadpoolctl",
}
MATMUL_SIZES = {"cpu": 1024, "cuda": 4096}


def _probe_packages() -> Facts:
    found: Facts = {}
    for module, name in CORE_PACKAGES.items():
        try:
            found[name] = {"version": importlib.import_module(module).__version__}
        except Exception as error:  # a broken installation raises anything
            found[name] = {"error": in_words(error)}
    return {"versions": found}


def _probe_matplotlib() -> Facts:
    import matplotlib

    return {"version": matplotlib.__version__}


def _probe_hdf5() -> Facts:
    import h5py

    return {"version": h5py.version.hdf5_version, "h5py": h5py.__version__}


def _probe_torch() -> Facts:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    device = "cuda" if gpus else "cpu"
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "matmul": {
            "device": device,
            "fp32_gflops": _matmul_speed(device, torch.float32),
            "bf16_gflops": _matmul_speed(device, torch.bfloat16),
        },
    }


def _matmul_speed(device: str, dtype: Any) -> float:
    """Return the billions of operations a second of the best of a few matrix products."""
    import torch

    size = MATMUL_SIZES[device]
    left = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    until = time.perf_counter() + 1.0
    for turn in range(8):
        start = time.perf_counter()
        product = left @ left
        if device == "cuda":
            torch.cuda.synchronize()
        # The first product pays for starting threads and choosing a kernel.
        best = min(best, time.perf_counter() - start) if turn else best
        if turn and time.perf_counter() > until:
            break
    del product
    return round(2 * size**3 / best / 1e9, 1)


def _probe_mpi() -> Facts:
    import mpi4py

    mpi4py.rc.initialize = False  # the library's name can be had without becoming a rank
    from mpi4py import MPI

    library = MPI.Get_library_version().strip("\0 \n").splitlines()[0]
    return {
        "library": library.split(", package")[0],
        "standard": ".".join(map(str, MPI.Get_version())),
        "mpi4py": mpi4py.__version__,
    }


def _probe_horovod() -> Facts:
    import horovod
    import horovod.torch as hvd

    built = {
        "MPI": hvd.mpi_built(),
        "Gloo": hvd.gloo_built(),
        "NCCL": bool(hvd.nccl_built()),
        "CUDA": hvd.cuda_built(),
        "ROCm": hvd.rocm_built(),
        "oneCCL": hvd.ccl_built(),
        "DDL": hvd.ddl_built(),
    }
    present = [name for name, there in built.items() if there]
    return {
        "version": horovod.__version__,
        "controllers": [name for name in present if name in ("MPI", "Gloo")],
        "operations": [name for name in present if name not in ("CUDA", "ROCm")],
    }


def _probe_world() -> Facts:
    """Join the job that doctor was started in, and say how many ranks the MPI library sees."""
    from mpi4py import MPI

    return {"size": MPI.COMM_WORLD.Get_size()}


PROBES: Mapping[str, Callable[[], Facts]] = {
    "packages": _probe_packages,
    "hdf5": _probe_hdf5,
    "matplotlib": _probe_matplotlib,
    "torch": _probe_torch,
    "mpi": _probe_mpi,
    "horovod": _probe_horovod,
}


def print_probe(name: str) -> None:
    """Run one probe in this process and print what it found as a line of JSON."""
    probe = _probe_world if name == "world" else PROBES[name]
    try:
        found = probe()
    except Exception as error:  # whatever a broken installation raises is the finding
        found = {"error": in_words(error)}
    print(f"\nprobe:{json.dumps(found)}", flush=True)


def in_words(error: BaseException) -> str:
    """Return the first line of an error, short."""
    first = str(error).strip().partition("\n")[0] or type(error).__name__
    missing = isinstance(error, ModuleNotFoundError)
    return "not installed" if missing and first.startswith("No module named") else first[:300]

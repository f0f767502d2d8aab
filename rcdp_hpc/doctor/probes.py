"""Probes of packages, each run in a separate process."""

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
CALLS = 2000


def _probe_packages() -> Facts:
    versions: Facts = {}
    for module, name in CORE_PACKAGES.items():
        try:
            versions[name] = {"version": importlib.import_module(module).__version__}
        except Exception as error:  # a broken installation may raise any error
            versions[name] = {"error": short_message(error)}
    return {"versions": versions}


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
        "calls_per_second": _calls_per_second(device),
        "nccl": _sum_over_gpus(len(gpus)) if gpus else {},
    }


def _calls_per_second(device: str) -> int:
    """Return how many operations on a small tensor this process starts per second.

    A step of a small network is limited by this number, not by the speed of the device.
    """
    import torch

    values = torch.zeros(16, device=device)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(CALLS):
            values.add_(1.0)
        best = min(best, time.perf_counter() - start)
    return round(CALLS / best)


def _sum_over_gpus(count: int) -> Facts:
    """Sum once over all GPUs of this process with NCCL, as trainings on several GPUs do."""
    import torch

    try:
        from torch.cuda import nccl

        ones = [torch.ones(4, device=f"cuda:{index}") for index in range(count)]
        nccl.all_reduce(ones)
        sums = {float(value) for one in ones for value in one.cpu()}
        if sums != {float(count)}:
            raise RuntimeError(f"the sum of {count} ones is {sorted(sums)}")
        return {"version": ".".join(map(str, nccl.version()))}
    except Exception as error:  # whatever a driver or a library raises is the result
        return {"error": short_message(error)}


def _matmul_speed(device: str, dtype: Any) -> float:
    """Return the speed of the fastest of several matrix products, in billions of operations per second."""
    import torch

    size = MATMUL_SIZES[device]
    left = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    until = time.perf_counter() + 1.0
    for repeat in range(8):
        start = time.perf_counter()
        product = left @ left
        if device == "cuda":
            torch.cuda.synchronize()
        # The first product is not counted, because it starts threads and chooses a kernel.
        best = min(best, time.perf_counter() - start) if repeat else best
        if repeat and time.perf_counter() > until:
            break
    del product
    return round(2 * size**3 / best / 1e9, 1)


def _probe_mpi() -> Facts:
    import mpi4py

    mpi4py.rc.initialize = False  # the name of the library is available without starting MPI
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


def _probe_torch_distributed() -> Facts:
    """Start a group of this process alone, which shows whether Gloo works."""
    import os
    from datetime import timedelta

    import torch.distributed as distributed

    if not distributed.is_available() or not distributed.is_gloo_available():
        raise RuntimeError("torch was built without torch.distributed or without Gloo")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.ProcessGroupGloo(distributed.HashStore(), 0, 1, timedelta(seconds=30))
    return {"backends": ["Gloo", "NCCL"] if distributed.is_nccl_available() else ["Gloo"]}


def _probe_world() -> Facts:
    """Join the job of this process and return the number of ranks that the MPI library sees."""
    from mpi4py import MPI

    return {"size": MPI.COMM_WORLD.Get_size()}


PROBES: Mapping[str, Callable[[], Facts]] = {
    "packages": _probe_packages,
    "hdf5": _probe_hdf5,
    "matplotlib": _probe_matplotlib,
    "torch": _probe_torch,
    "mpi": _probe_mpi,
    "horovod": _probe_horovod,
    "torch_distributed": _probe_torch_distributed,
}


def print_probe(name: str) -> None:
    """Run a probe in this process and print its result as a line of JSON."""
    probe = _probe_world if name == "world" else PROBES[name]
    try:
        result = probe()
    except Exception as error:  # any error of a broken installation is a result
        result = {"error": short_message(error)}
    print(f"\nprobe:{json.dumps(result)}", flush=True)


def short_message(error: BaseException) -> str:
    """Return the first line of an error, shortened."""
    first = str(error).strip().partition("\n")[0] or type(error).__name__
    missing = isinstance(error, ModuleNotFoundError)
    return "not installed" if missing and first.startswith("No module named") else first[:300]

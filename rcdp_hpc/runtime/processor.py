"""Properties of a machine that affect the last digits of results: processor, instruction sets, and libraries."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

log = logging.getLogger(__name__)

# Variables that make libraries use other instruction sets, or sum in another order.
VARIABLES = (
    "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG",
)  # fmt: skip

# Names of the code paths of the MKL, by their numbers in its header files.
_MKL_BRANCHES = {
    4: "SSE2", 6: "SSSE3", 7: "SSE4_1", 8: "SSE4_2", 9: "AVX", 10: "AVX2", 11: "AVX512_MIC", 12: "AVX512",
    13: "AVX512_MIC_E1", 14: "AVX512_E1",
}  # fmt: skip

Machine = dict[str, Any]


@cache
def processor_name() -> str:
    """Return the name and model numbers of the processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            entries = dict(line.split(":", 1) for line in lines if ":" in line)
    except OSError:
        return platform.processor() or platform.machine()
    fields = {name.strip(): value.strip() for name, value in entries.items()}
    parts = [fields[name] for name in ("model name", "cpu family", "model", "stepping") if name in fields]
    return " ".join(parts) or platform.machine()


def machine_of_process(uses_gpu: bool = True) -> Machine:
    """Return the properties of this machine and process that affect the last digits of results, by name.

    Properties of torch are included if torch is imported.

    Parameters
    ----------
    uses_gpu : bool
        Whether the GPU of this rank, if there is one, computes.
    """
    machine: Machine = {"processor": processor_name(), "numpy": np.__version__, "blas": _blas()}
    torch = sys.modules.get("torch")
    if torch is not None:
        machine["torch"] = str(torch.__version__)
        machine["capability"] = torch.backends.cpu.get_cpu_capability()
        machine["mkl"] = _mkl(Path(str(torch.__file__)).parent / "lib" / "libtorch_cpu.so")
        if uses_gpu and torch.cuda.is_available():
            from rcdp_hpc.runtime.device import device

            machine["gpu"] = torch.cuda.get_device_name(device())
    machine["variables"] = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    return machine


def count_machines(machines: Sequence[Machine]) -> list[Machine]:
    """Return each distinct machine once, with the number of ``ranks`` on it."""
    distinct: list[Machine] = []
    for machine in machines:
        if machine not in distinct:
            distinct.append(machine)
    return [{**machine, "ranks": machines.count(machine)} for machine in distinct]


def report_different_machines(machines: Sequence[Machine]) -> None:
    """Log the machines of the ranks if they differ, because results may then differ in the last digits."""
    names = list(dict.fromkeys(name for machine in machines for name in machine if name != "ranks"))
    differing = [name for name in names if len({_text(machine.get(name)) for machine in machines}) > 1]
    descriptions = "; ".join(
        f"{', '.join(f'{name} {_text(machine.get(name))}' for name in differing)} on {machine['ranks']} ranks"
        for machine in machines
    )
    log.warning(
        "the ranks run on different machines (%s). They may round differently, so another distribution of ranks "
        "changes the last digits of the results",
        descriptions,
    )


def differences(before: Sequence[Machine], now: Sequence[Machine]) -> str:
    """Return the properties that differ between the machines of two starts, with both values; empty if none do."""
    names = dict.fromkeys(name for machine in (*before, *now) for name in machine if name != "ranks")
    parts = []
    for name in names:
        old, new = (list(dict.fromkeys(_text(machine.get(name)) for machine in side)) for side in (before, now))
        if set(old) != set(new):
            parts.append(f"{name} {' and '.join(old)} -> {' and '.join(new)}")
    return "; ".join(parts)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={one}" for name, one in value.items()) or "none"
    return str(value) if value else "none"


def _blas() -> str:
    """Return the BLAS libraries of NumPy and SciPy, and the processor types that they are tuned for."""
    libraries = [one for one in threadpool_info() if one.get("user_api") == "blas"]
    return " ".join(sorted({f"{one['internal_api']} {one.get('architecture') or ''}".strip() for one in libraries}))


@cache
def _mkl(library: Path) -> str:
    """Return the version and code path of the MKL in torch; empty if torch has none."""
    parts = []
    with suppress(OSError, AttributeError):
        mkl = ctypes.CDLL(str(library))
        text = ctypes.create_string_buffer(256)
        mkl.MKL_Get_Version_String(text, len(text))
        version = re.search(r"Version ([\d.]+)", text.value.decode(errors="replace"))
        parts.append(version[1] if version else "of unknown version")
        branch = int(mkl.mkl_serv_cbwr_get_auto_branch())
        parts.append(_MKL_BRANCHES.get(branch, f"branch {branch}"))
    return " ".join(parts)

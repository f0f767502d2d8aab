"""``rcdp doctor``: what is installed here, and what is missing for which stage.

Every package is tried in a process of its own, so that one that crashes or hangs on import is reported like one
that is missing. Nothing heavy is imported by this module itself.
"""

from __future__ import annotations

import importlib
import json as jsonlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import rcdp_hpc

Facts = dict[str, Any]

PROBE_TIMEOUT_S = 90
COMMAND_TIMEOUT_S = 10
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
# A probe is no rank of the job that doctor runs in: with these it would take itself for one.
LAUNCHER_PREFIXES = ("OMPI_", "PMIX_", "PMI_", "PRTE_", "HYDRA_", "SLURM_", "HOROVOD_")
MATMUL_SIZES = {"cpu": 1024, "cuda": 4096}

SETUP = "run make setup in the checkout (docs/install.md)"
PIP_CORE = "pip install . in the checkout, or make setup"


# --- probes, each run in a process of its own ------------------------------------------------------------


def _probe_packages() -> Facts:
    found: Facts = {}
    for module, name in CORE_PACKAGES.items():
        try:
            found[name] = {"version": importlib.import_module(module).__version__}
        except Exception as error:  # a broken installation raises anything
            found[name] = {"error": _in_words(error)}
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
        found = {"error": _in_words(error)}
    print(f"\nprobe:{jsonlib.dumps(found)}", flush=True)


def _in_words(error: BaseException) -> str:
    first = str(error).strip().partition("\n")[0] or type(error).__name__
    missing = isinstance(error, ModuleNotFoundError)
    return "not installed" if missing and first.startswith("No module named") else first[:300]


def probe(name: str, environ: Mapping[str, str] | None = None, timeout: float = PROBE_TIMEOUT_S) -> Facts:
    """Run one probe in a child process.

    Parameters
    ----------
    name : str
        A key of `PROBES`, or "world".
    environ : mapping, optional
        The child's environment; by default this process's own without what a launcher set.
    timeout : float
        Seconds to wait for the child.

    Returns
    -------
    dict
        What the probe found, or ``{"error": why}``.
    """
    code = f"from rcdp_hpc import doctor; doctor.print_probe({name!r})"
    env = dict(environ) if environ is not None else _without_launcher(os.environ)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=env,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"gave no answer within {timeout:.0f} s"}
    except OSError as error:
        return {"error": str(error)}
    answers = re.findall(r"^probe:(.*)$", done.stdout, re.MULTILINE)
    if answers:
        answer: Facts = jsonlib.loads(answers[-1])
        return answer
    if done.returncode < 0:
        return {"error": f"crashed with {signal.Signals(-done.returncode).name} while it was loaded"}
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return {"error": (said[-1] if said else f"left with code {done.returncode}")[:300]}


def _without_launcher(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith(LAUNCHER_PREFIXES)}


# --- what is there ---------------------------------------------------------------------------------------


def report() -> Facts:
    """Return what is installed and which stages are ready.

    Returns
    -------
    dict
        ``python``, ``launch``, ``mpirun``, ``slurm`` and one entry for each of `PROBES` (with ``error`` where it
        failed), ``notes``, ``stages`` (each ``{"ready": bool, "missing": [{"what", "do"}]}``) and ``ready``.
    """
    from rcdp_hpc.runtime.launch import detect

    launch = detect()
    facts: Facts = {
        "rcdp_hpc": rcdp_hpc.__version__,
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "launch": {"kind": launch.kind, "size": launch.size, "launcher": launch.launcher},
        "mpirun": _mpirun(),
        "slurm": _slurm(),
        "gpu_driver": _output_of("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines(),
    }
    if launch.kind == "mpi":
        facts["launch"]["world"] = probe("world", os.environ)
    # The speed of torch is measured on a machine that does nothing else for us.
    facts["torch"] = probe("torch")
    others = [name for name in PROBES if name != "torch"]
    with ThreadPoolExecutor(max_workers=2) as pool:
        facts.update(zip(others, pool.map(probe, others), strict=True))
    facts["notes"] = _notes(facts)
    facts["stages"] = _stages(facts)
    facts["ready"] = all(stage["ready"] for stage in facts["stages"].values())
    return facts


def _output_of(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=COMMAND_TIMEOUT_S,
            env=_without_launcher(os.environ),
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _mpirun() -> Facts:
    beside = os.path.join(os.path.dirname(sys.executable), "mpirun")
    path = shutil.which("mpirun") or shutil.which(beside)
    if path is None:
        return {"error": "not on the PATH"}
    return {"path": path, "version": _output_of(path, "--version").partition("\n")[0]}


def _slurm() -> Facts:
    version = _output_of("sinfo", "--version") or _output_of("srun", "--version")
    if not version:
        return {"error": "no Slurm commands on the PATH"}
    plugins = re.findall(r"\b(pmix(?:_v\d+)?|pmi2|cray_shasta|none)\b", _output_of("srun", "--mpi=list"))
    return {
        "version": version.removeprefix("slurm").strip(),
        "mpi": sorted(set(plugins) - {"none"}),
        "job": os.environ.get("SLURM_JOB_ID"),
    }


def _notes(facts: Facts) -> list[str]:
    """Return what works but could work better, or is about to surprise."""
    torch, horovod = facts["torch"], facts["horovod"]
    notes = []
    if facts["gpu_driver"] and "version" in torch and not torch["gpus"]:
        why = "a CPU build" if torch["cuda"] is None else f"built for CUDA {torch['cuda']}, which the driver refuses"
        notes.append(f"there are GPUs here, but torch is {why}: install torch's CUDA build, then make setup again")
    if torch.get("gpus") and "NCCL" not in horovod.get("operations", ["NCCL"]):
        notes.append(
            "torch sees GPUs, but Horovod was built without NCCL: load the site's CUDA toolkit (nvcc on the PATH), "
            "then make setup again"
        )
    if "error" in facts["mpirun"] and "error" in facts["slurm"] and "error" not in facts["mpi"]:
        notes.append("neither mpirun nor srun is on the PATH: load the site's MPI module to start several ranks")
    if facts["slurm"].get("version") and not any(name.startswith("pmi") for name in facts["slurm"]["mpi"]):
        notes.append("this Slurm's srun offers no PMI (srun --mpi=list): start ranks with mpirun inside sbatch")
    return notes


# --- what is missing for which stage ---------------------------------------------------------------------


def _lacks_packages(facts: Facts) -> tuple[str, str] | None:
    if "error" in facts["packages"]:
        return f"the core packages ({facts['packages']['error']})", PIP_CORE
    bad = {name: found["error"] for name, found in facts["packages"]["versions"].items() if "error" in found}
    return (", ".join(f"{name} ({why})" for name, why in bad.items()), PIP_CORE) if bad else None


def _lacks(name: str, shown: str) -> Callable[[Facts], tuple[str, str] | None]:
    def check(facts: Facts) -> tuple[str, str] | None:
        error = facts[name].get("error")
        return (f"{shown} ({error})", SETUP) if error else None

    return check


def _lacks_world(facts: Facts) -> tuple[str, str] | None:
    world = facts["launch"].get("world")
    if world is None or world.get("size") == facts["launch"]["size"] or "error" in facts["mpi"]:
        return None
    seen = world.get("error") or f"the MPI library sees {world['size']}"
    return (
        f"ranks that see one another ({facts['launch']['launcher']} started {facts['launch']['size']}, {seen})",
        "use the mpirun of the MPI named above, or srun --mpi=pmix (MPICH: --mpi=pmi2)",
    )


def _lacks_mpi_horovod(facts: Facts) -> tuple[str, str] | None:
    if "error" in facts["horovod"] or facts["horovod"]["controllers"]:
        return None
    return "a Horovod with MPI or Gloo", SETUP


_MPI = (_lacks("mpi", "MPI through mpi4py"), _lacks_world)
_TORCH = _lacks("torch", "torch")
NEEDS: Mapping[str, tuple[Callable[[Facts], tuple[str, str] | None], ...]] = {
    "prepare": (_lacks_packages,),
    "search": (_lacks_packages, _TORCH, *_MPI),
    "train": (_lacks_packages, _TORCH, *_MPI, _lacks("horovod", "Horovod"), _lacks_mpi_horovod),
    "evaluate/predict": (_lacks_packages, _TORCH, _lacks("matplotlib", "matplotlib, for the report's pictures")),
}


def _stages(facts: Facts) -> Facts:
    stages: Facts = {}
    for stage, needs in NEEDS.items():
        missing = [lack for lack in (need(facts) for need in needs) if lack is not None]
        stages[stage] = {
            "ready": not missing,
            "missing": [{"what": what, "do": remedy} for what, remedy in missing],
        }
    return stages


# --- in words --------------------------------------------------------------------------------------------


def main_text(facts: Facts) -> str:
    """Return the report as a table for people.

    Parameters
    ----------
    facts : dict
        What `report` returned.

    Returns
    -------
    str
        A line for each thing there is, then a line for each stage.
    """
    rows = [
        ("Python", f"{facts['python']['version']}  {facts['python']['executable']}"),
        ("launched by", _launch_line(facts["launch"])),
        ("MPI", _line(facts["mpi"], "{library}, MPI {standard}, mpi4py {mpi4py}")),
        ("mpirun", _line(facts["mpirun"], "{version}  {path}")),
        ("Horovod", _horovod_line(facts["horovod"])),
        ("torch", _torch_line(facts["torch"])),
        ("bf16", _speed_line(facts["torch"])),
        ("HDF5", _line(facts["hdf5"], "{version}, h5py {h5py}")),
        ("GPUs", _gpu_line(facts)),
        ("Slurm", _slurm_line(facts["slurm"])),
    ]
    lines = [f"rcdp_hpc {facts['rcdp_hpc']}", ""]
    lines += [f"  {name:<12} {text}" for name, text in rows]
    lines += [""]
    for stage, state in facts["stages"].items():
        lines += [f"  {stage:<17} ready"] if state["ready"] else []
        for remedy in dict.fromkeys(lack["do"] for lack in state["missing"]):
            what = ", ".join(lack["what"] for lack in state["missing"] if lack["do"] == remedy)
            lines += [f"  {stage:<17} missing: {what}", f"{'':<20}-> {remedy}"]
    lines += ["", *(f"  note: {note}" for note in facts["notes"])]
    lines += [_verdict(facts)]
    return "\n".join(lines)


def _verdict(facts: Facts) -> str:
    waiting = [stage for stage, state in facts["stages"].items() if not state["ready"]]
    if not waiting:
        return "Every stage is ready."
    ready = [stage for stage in facts["stages"] if stage not in waiting]
    also = f" {', '.join(ready)} can run all the same." if ready else ""
    return f"Not ready: {', '.join(waiting)} (exit code 1).{also}"


def _line(found: Facts, pattern: str) -> str:
    return found["error"] if "error" in found else pattern.format(**found)


def _launch_line(launch: Facts) -> str:
    if launch["kind"] == "single":
        return "no launcher: one process"
    world = launch.get("world", {})
    seen = ""
    if world:
        seen = ", " + (world.get("error") or f"the MPI library sees {world['size']}")
    return f"{launch['launcher']}: {launch['size']} ranks{seen}"


def _horovod_line(found: Facts) -> str:
    if "error" in found:
        return str(found["error"])
    controllers = ", ".join(found["controllers"]) or "none"
    return f"{found['version']}, controllers: {controllers}; operations: {', '.join(found['operations']) or 'none'}"


def _torch_line(found: Facts) -> str:
    build = f"CUDA {found['cuda']}" if found.get("cuda") else "CPU build"
    return _line(found, "{version}, " + build + f", {found.get('threads')} thread" + "s" * (found.get("threads") != 1))


def _speed_line(found: Facts) -> str:
    if "error" in found:
        return "not measured"
    speed = found["matmul"]
    ratio = speed["bf16_gflops"] / speed["fp32_gflops"]
    gain = f"{ratio:.1f} times as fast" if ratio >= 1.1 else f"no gain here ({ratio:.2f} times): keep fp32"
    return (
        f"{speed['bf16_gflops']:.0f} GFLOP/s, fp32 {speed['fp32_gflops']:.0f} GFLOP/s on the {speed['device']}: {gain}"
    )


def _gpu_line(facts: Facts) -> str:
    seen = facts["torch"].get("gpus") or []
    if seen:
        return f"{len(seen)}: {', '.join(dict.fromkeys(seen))}"
    there = facts["gpu_driver"]
    return f"{len(there)} here ({', '.join(dict.fromkeys(there))}), none that torch can use" if there else "none"


def _slurm_line(found: Facts) -> str:
    if "error" in found:
        return str(found["error"])
    job = f", in job {found['job']}" if found["job"] else ""
    return f"{found['version']}, srun --mpi: {', '.join(found['mpi']) or 'none'}{job}"


def run(json: bool = False) -> int:
    """Print the report, once for all ranks.

    Parameters
    ----------
    json : bool
        Print the data of `report` instead of the table.

    Returns
    -------
    int
        0 where every stage is ready, otherwise 1.
    """
    from rcdp_hpc.runtime.launch import detect

    launch = detect()
    if launch.rank != 0:
        if launch.kind == "mpi":
            probe("world", os.environ)  # rank 0 counts on the others to join
        return 0
    facts = report()
    print(jsonlib.dumps(facts, indent=2) if json else main_text(facts), flush=True)
    return 0 if facts["ready"] else 1

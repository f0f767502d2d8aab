"""The report of ``rcdp doctor`` as a table."""

from __future__ import annotations

from rcdp_hpc.doctor.probes import Facts
from rcdp_hpc.runtime.text import join_lines


def format_report(facts: Facts) -> str:
    """Return the report as a table.

    Parameters
    ----------
    facts : dict
        Result of `environment.inspect_environment`.

    Returns
    -------
    str
        Lines for the parts of the environment, followed by lines for the stages.
    """
    rows = [
        ("Python", f"{facts['python']['version']}  {facts['python']['executable']}"),
        ("launched by", _launch_line(facts["launch"])),
        ("network", facts["network"]),
        ("MPI", _line(facts["mpi"], "{library}, MPI {standard}, mpi4py {mpi4py}")),
        ("mpirun", _line(facts["mpirun"], "{version}  {path}")),
        ("Horovod", _horovod_line(facts["horovod"])),
        ("torch", _torch_line(facts["torch"])),
        ("bf16", _speed_line(facts["torch"])),
        ("engine", "{shown}; {why}".format(**facts["engine"])),
        ("HDF5", _line(facts["hdf5"], "{version}, h5py {h5py}")),
        ("GPUs", _gpu_line(facts)),
        ("Slurm", _slurm_line(facts["slurm"])),
    ]
    lines = [f"rcdp_hpc {facts['rcdp_hpc']}", ""]
    lines += [f"  {name:<12} {text}" for name, text in rows]
    lines += [""]
    for stage, state in facts["stages"].items():
        lines += [f"  {stage:<17} ready"] if state["ready"] else []
        for remedy in dict.fromkeys(missing["do"] for missing in state["missing"]):
            what = ", ".join(missing["what"] for missing in state["missing"] if missing["do"] == remedy)
            lines += [f"  {stage:<17} missing: {what}", f"{'':<20}-> {remedy}"]
    lines += ["", *(f"  note: {note}" for note in facts["notes"])]
    lines += [_verdict(facts)]
    return join_lines(lines)


def _verdict(facts: Facts) -> str:
    not_ready = [stage for stage, state in facts["stages"].items() if not state["ready"]]
    if not not_ready:
        return "Every stage is ready."
    ready = [stage for stage in facts["stages"] if stage not in not_ready]
    text = f" Ready: {', '.join(ready)}." if ready else ""
    return f"Not ready: {', '.join(not_ready)} (exit code 1).{text}"


def _line(result: Facts, pattern: str) -> str:
    return result["error"] if "error" in result else pattern.format(**result)


def _launch_line(launch: Facts) -> str:
    if launch["kind"] == "single":
        return "no launcher: one process"
    world = launch.get("world", {})
    seen = ""
    if world:
        seen = ", " + (world.get("error") or f"the MPI library sees {world['size']}")
    return f"{launch['launcher']}: {launch['size']} ranks{seen}"


def _horovod_line(result: Facts) -> str:
    if "error" in result:
        return str(result["error"])
    controllers = ", ".join(result["controllers"]) or "none"
    return f"{result['version']}, controllers: {controllers}; operations: {', '.join(result['operations']) or 'none'}"


def _torch_line(result: Facts) -> str:
    build = f"CUDA {result['cuda']}" if result.get("cuda") else "CPU build"
    threads = f"{result.get('threads')} thread" + "s" * (result.get("threads") != 1)
    calls = f"{result.get('calls_per_second', 0):,} calls a second"
    return _line(result, "{version}, " + f"{build}, {threads}, {calls}")


def _speed_line(result: Facts) -> str:
    if "error" in result:
        return "not measured"
    speed = result["matmul"]
    ratio = speed["bf16_gflops"] / speed["fp32_gflops"]
    gain = f"{ratio:.1f} times as fast" if ratio >= 1.1 else f"no gain ({ratio:.2f} times): keep fp32"
    bf16, fp32 = _flops(speed["bf16_gflops"]), _flops(speed["fp32_gflops"])
    return f"{bf16}, fp32 {fp32} on the {'CPU' if speed['device'] == 'cpu' else 'GPU'}: {gain}"


def _flops(gflops: float) -> str:
    return f"{gflops:.0f} GFLOP/s" if gflops < 1000 else f"{gflops / 1000:.3g} TFLOP/s"


def _gpu_line(facts: Facts) -> str:
    seen = facts["torch"].get("gpus") or []
    if seen:
        return f"{len(seen)}: {', '.join(dict.fromkeys(seen))}{_nccl(facts['torch'].get('nccl') or {})}"
    names = facts["gpu_driver"]
    return f"{len(names)} ({', '.join(dict.fromkeys(names))}), but torch cannot use them" if names else "none"


def _nccl(result: Facts) -> str:
    if not result:
        return ""
    return (
        f"; NCCL cannot sum: {result['error']}" if "error" in result else f"; NCCL {result['version']} sums over them"
    )


def _slurm_line(result: Facts) -> str:
    if "error" in result:
        return str(result["error"])
    job = f", in job {result['job']}" if result["job"] else ""
    return f"{result['version']}, srun --mpi: {', '.join(result['mpi']) or 'none'}{job}"

"""What doctor found, as a table for people."""

from __future__ import annotations

from rcdp_hpc.doctor.probes import Facts
from rcdp_hpc.runtime.text import join_lines


def format_report(facts: Facts) -> str:
    """Return the report as a table for people.

    Parameters
    ----------
    facts : dict
        What `facts.report` returned.

    Returns
    -------
    str
        A line for each thing there is, then a line for each stage.
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
    return join_lines(lines)


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

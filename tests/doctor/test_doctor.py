"""`rcdp doctor` for complete, broken and missing installations, with invented results of the probes."""

import copy
import json
import sys

import pytest
from launch import python, rcdp, run_ranks

from rcdp_hpc import doctor
from rcdp_hpc.doctor import environment, probes, subprocess_checks
from rcdp_hpc.doctor.report import format_report
from rcdp_hpc.doctor.requirements import REQUIREMENTS

FOUND = {
    "packages": {"versions": {"numpy": {"version": "2.4"}, "h5py": {"version": "3.16"}}},
    "hdf5": {"version": "1.14", "h5py": "3.16"},
    "matplotlib": {"version": "3.11"},
    "torch": {
        "version": "2.13.0+cpu",
        "cuda": None,
        "threads": 2,
        "gpus": [],
        "matmul": {"device": "cpu", "fp32_gflops": 100.0, "bf16_gflops": 400.0},
        "calls_per_second": 412000,
        "nccl": {},
    },
    "mpi": {"library": "Open MPI v5.0.11", "standard": "3.1", "mpi4py": "4.1.2"},
    "horovod": {"version": "0.28.1", "controllers": ["MPI", "Gloo"], "operations": ["MPI", "Gloo"]},
    "torch_distributed": {"backends": ["Gloo"]},
    "world": {"size": 2},
}


@pytest.fixture
def found(monkeypatch):
    """Return the results of the probes, which a test can change."""
    made_up = copy.deepcopy(FOUND)
    for name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID", "HOROVOD_GLOO_RENDEZVOUS_ADDR", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(subprocess_checks, "probe", lambda name, *_: made_up[name])
    monkeypatch.setattr(subprocess_checks, "output_of", lambda *_: "")
    return made_up


def missing(report, stage):
    return " ".join(lack["what"] for lack in report["stages"][stage]["missing"])


def test_a_complete_installation_is_ready_for_every_stage(found, capsys):
    assert doctor.run() == 0
    text = capsys.readouterr().out
    assert text.count(" ready\n") == len(REQUIREMENTS)
    assert "Every stage is ready." in text
    assert "  network      one process opens no port" in text
    assert "torch        2.13.0+cpu, CPU build, 2 threads, 412,000 calls a second" in text
    assert "bf16         400 GFLOP/s, fp32 100 GFLOP/s on the CPU: 4.0 times as fast" in text


def test_without_torch_mpi_and_horovod_shards_can_still_be_prepared(found, capsys):
    for name in ("torch", "mpi", "horovod", "torch_distributed"):
        found[name] = {"error": "not installed"}
    assert doctor.run() == 1
    text = capsys.readouterr().out
    assert "  prepare           ready" in text
    assert "  search            missing: torch (not installed), MPI through mpi4py (not installed)\n" in text
    assert "-> run make setup" in text
    assert "Not ready: search, train, evaluate/predict (exit code 1). Ready: prepare." in text


@pytest.mark.parametrize(
    ("broken", "stages"),
    [
        ("packages", {"prepare", "search", "train", "evaluate/predict"}),
        ("torch", {"search", "train", "evaluate/predict"}),
        ("mpi", set()),
        ("horovod", set()),
        ("torch_distributed", set()),
        ("mpi torch_distributed", {"search", "train"}),
        ("horovod torch_distributed", {"train"}),
        ("matplotlib", set()),
        ("hdf5", set()),
    ],
)
def test_each_package_is_missing_for_its_own_stages(found, broken, stages):
    for name in broken.split():
        found[name] = {"error": "libx.so: cannot open shared object file"}
    report = environment.inspect_environment()
    assert {stage for stage, state in report["stages"].items() if not state["ready"]} == stages
    assert report["ready"] == (not stages)
    assert all("libx.so" in missing(report, stage) for stage in stages)
    format_report(report)


def test_without_matplotlib_reports_have_no_pictures(found, capsys):
    found["matplotlib"] = {"error": "not installed"}
    assert doctor.run() == 0
    assert "note: reports have no pictures" in capsys.readouterr().out


MPIRUN = {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost", "MASTER_PORT": "29500",
}  # fmt: skip
GLOO = {"HOROVOD_GLOO_RENDEZVOUS_ADDR": "127.0.0.1", "HOROVOD_RANK": "0", "HOROVOD_SIZE": "2"}
ABSENT = {"error": "not installed"}


@pytest.mark.parametrize(
    ("environ", "changes", "line"),
    [
        ({}, {}, "Horovod; with parallel.engine = 'torch': torch.distributed (Gloo)"),
        (MPIRUN, {}, "Horovod; with parallel.engine = 'torch': torch.distributed (Gloo)"),
        (GLOO, {"torch_distributed": ABSENT}, "Horovod; torch.distributed cannot run: not installed"),
        (
            GLOO | {"HOROVOD_ELASTIC": "1"},
            {},
            "Horovod; torch.distributed cannot run: elastic runs (horovodrun",
        ),
        (MPIRUN, {"horovod": ABSENT}, "torch.distributed (Gloo); Horovod cannot run: not installed"),
        (
            MPIRUN,
            {"horovod": {"controllers": ["Gloo"]}, "torch_distributed": {"backends": ["Gloo", "NCCL"]}},
            "torch.distributed (Gloo, NCCL); Horovod cannot run: it was built without MPI (horovodrun --gloo can",
        ),
        (TORCHRUN, {}, "torch.distributed (Gloo); Horovod cannot run: it cannot connect the ranks of torchrun"),
        (
            MPIRUN,
            {"horovod": ABSENT, "torch_distributed": ABSENT},
            "none; Horovod cannot run: not installed; torch.distributed cannot",
        ),
    ],
)
def test_the_engine_of_a_training_and_the_reason(found, monkeypatch, environ, changes, line):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    for name, change in changes.items():
        found[name] = {**({} if "error" in change else found[name]), **change}
    report = environment.inspect_environment()
    assert f"  engine       {line}" in format_report(report)
    assert report["stages"]["train"]["ready"] == (not line.startswith("none"))


def test_without_horovod_and_mpi_torchrun_is_named(found):
    found["horovod"] = found["mpi"] = ABSENT
    report = environment.inspect_environment()
    assert report["ready"]
    assert any("training runs with torch.distributed instead" in note for note in report["notes"])
    assert any("start several ranks with torchrun" in note for note in report["notes"])


def test_under_torchrun_mpi_is_not_needed(found, monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    found["mpi"] = ABSENT
    report = environment.inspect_environment()
    assert report["ready"]
    assert "  launched by  torchrun: 2 ranks\n" in format_report(report)


def test_a_missing_core_package_is_named(found):
    found["packages"]["versions"]["imbalanced-learn"] = {"error": "not installed"}
    assert "imbalanced-learn (not installed)" in missing(environment.inspect_environment(), "prepare")


def test_ranks_that_do_not_see_each_other_are_detected(found, monkeypatch, capsys):
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    assert doctor.run() == 0
    text = capsys.readouterr().out
    assert "2 ranks, the MPI library sees 2" in text
    assert "without a password: use it in private networks only (docs/security.md)" in text
    found["world"] = {"size": 1}
    report = environment.inspect_environment()
    assert "the MPI library sees 1" in missing(report, "search")
    assert report["stages"]["evaluate/predict"]["ready"]
    found["world"] = {"error": "MPI_Init failed"}
    assert "MPI_Init failed" in missing(environment.inspect_environment(), "train")


def test_only_rank_0_prints(found, monkeypatch, capsys):
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    assert doctor.run() == 0
    assert capsys.readouterr().out == ""


def test_json_is_the_same_report(found, capsys):
    assert doctor.run(json=True) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ready"] is True
    assert report["horovod"]["controllers"] == ["MPI", "Gloo"]


def test_gpus_that_cannot_be_used_are_noted(found, monkeypatch):
    monkeypatch.setattr(
        subprocess_checks, "output_of", lambda *c: "NVIDIA H100\nNVIDIA H100" if c[0] == "nvidia-smi" else ""
    )
    report = environment.inspect_environment()
    assert any("a CPU build" in note for note in report["notes"])
    assert "2 (NVIDIA H100), but torch cannot use them" in format_report(report)
    found["torch"].update(cuda="13.0", gpus=["NVIDIA H100"])
    assert any("without NCCL" in note for note in environment.inspect_environment()["notes"])
    found["horovod"]["operations"].append("NCCL")
    assert not [note for note in environment.inspect_environment()["notes"] if "NCCL" in note]


def test_a_sum_over_the_gpus_is_shown(found):
    found["torch"].update(cuda="13.0", gpus=["NVIDIA H100"] * 4, nccl={"version": "2.28.9"})
    found["torch"]["matmul"] = {"device": "cuda", "fp32_gflops": 51300.0, "bf16_gflops": 712345.0}
    text = format_report(environment.inspect_environment())
    assert "4: NVIDIA H100; NCCL 2.28.9 sums over them" in text
    assert "712 TFLOP/s, fp32 51.3 TFLOP/s on the GPU: 13.9 times as fast" in text
    found["torch"]["nccl"] = {"error": "unhandled system error"}
    report = environment.inspect_environment()
    assert "NCCL cannot sum: unhandled system error" in format_report(report)
    assert any("NCCL_SOCKET_IFNAME" in note for note in report["notes"])


@pytest.mark.parametrize("wrong", [False, True])
def test_the_sum_over_the_gpus_is_checked(monkeypatch, wrong):
    import torch

    def all_reduce(values):
        for one in values:
            one.mul_(len(values) + wrong)

    monkeypatch.setattr(torch.cuda.nccl, "all_reduce", all_reduce)
    monkeypatch.setattr(torch.cuda.nccl, "version", lambda: (2, 28, 9))
    monkeypatch.setattr(torch, "ones", lambda count, device: torch.full((count,), 1.0))
    result = probes._sum_over_gpus(3)
    assert result == ({"error": "the sum of 3 ones is [4.0]"} if wrong else {"version": "2.28.9"})


def test_slurms_way_of_starting_ranks_is_shown(found, monkeypatch):
    answers = {"sinfo": "slurm 22.05.8", "srun": "MPI plugin types are...\n\tnone\n\tpmi2\n\tpmix\n\tpmix_v4"}
    monkeypatch.setattr(subprocess_checks, "output_of", lambda *command: answers.get(command[0], ""))
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    text = format_report(environment.inspect_environment())
    assert "22.05.8, srun --mpi: pmi2, pmix, pmix_v4, in job 17" in text
    answers["srun"] = "none"
    assert any("no PMI" in note for note in environment.inspect_environment()["notes"])


def test_slow_bf16_is_reported(found):
    found["torch"]["matmul"]["bf16_gflops"] = 50.0
    assert "no gain (0.50 times): keep fp32" in format_report(environment.inspect_environment())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import os; os.kill(os.getpid(), 11)", "crashed with SIGSEGV"),
        ("import time; time.sleep(60)", "no result within"),
        ("raise OSError('libmpi.so.40: cannot open shared object file')", "libmpi.so.40"),
        ("raise SystemExit('no thanks')", "no thanks"),
    ],
)
def test_a_broken_package_is_reported(tmp_path, monkeypatch, body, said):
    """A module that crashes on import ends only its probe."""
    (tmp_path / "matplotlib.py").write_text(body)
    environ = {"PYTHONPATH": f"{tmp_path}:{doctor.__file__.rpartition('/rcdp_hpc/')[0]}"}
    assert said in subprocess_checks.probe("matplotlib", environ, timeout=4)["error"]


def test_a_missing_package_is_reported_as_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    error = ModuleNotFoundError("No module named 'matplotlib'")
    assert probes.short_message(error) == "not installed"


def test_a_probe_is_not_a_rank_of_the_job():
    environ = {"OMPI_COMM_WORLD_RANK": "1", "SLURM_PROCID": "1", "PMIX_RANK": "1", "PATH": "/bin", "HOME": "/h"}
    environ |= TORCHRUN
    assert set(subprocess_checks.without_launcher(environ)) == {"PATH", "HOME"}


def test_importing_doctor_loads_nothing_heavy():
    heavy = "{'torch', 'horovod', 'mpi4py', 'h5py', 'sklearn'}"
    code = f"import sys, rcdp_hpc.doctor; print(sorted({heavy} & set(sys.modules)))"
    assert run_ranks(0, python(code)).stdout.strip() == "[]"


def test_this_installation_is_complete():
    """After make setup, nothing is missing on this machine."""
    report = environment.inspect_environment()
    assert report["ready"], report["stages"]
    assert report["torch"]["matmul"]["fp32_gflops"] > 0
    assert report["torch"]["calls_per_second"] > 0


@pytest.mark.mpi
def test_doctor_prints_once_for_two_ranks():
    done = run_ranks(2, rcdp("doctor"))
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("Every stage is ready.") == 1
    assert "2 ranks, the MPI library sees 2" in done.stdout

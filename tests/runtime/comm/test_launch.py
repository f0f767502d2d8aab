from __future__ import annotations

import pytest

from rcdp_hpc.cli.commands import main
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.connect import CONNECTIONS, alone, connect
from rcdp_hpc.runtime.comm.launch import detect, number_from_environment
from rcdp_hpc.runtime.comm.launcher import Launch
from rcdp_hpc.runtime.comm.launchers import LAUNCHERS, Slurm

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
ADDRESS = {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
BY_SRUN = {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}


@pytest.mark.parametrize(
    ("environ", "transport", "rank", "size"),
    [
        ({}, "none", 0, 1),
        ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4"}, "mpi", 2, 4),
        ({"PMI_RANK": "1", "PMI_SIZE": "3"}, "mpi", 1, 3),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, "mpi", 1, 2),
        # The environment of a batch script has no step, so it has no ranks.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, "none", 0, 1),
        # srun has started mpirun's daemons, one per node: the variables of mpirun count.
        (
            {
                "OMPI_COMM_WORLD_RANK": "3",
                "OMPI_COMM_WORLD_SIZE": "8",
                "SLURM_PROCID": "0",
                "SLURM_STEP_NUM_TASKS": "2",
            },
            "mpi",
            3,
            8,
        ),
        (
            {"HOROVOD_GLOO_RENDEZVOUS_ADDR": "127.0.0.1", "HOROVOD_RANK": "1", "HOROVOD_SIZE": "2"},
            "horovod",
            1,
            2,
        ),
        # Empty variables count as not set; the next launcher counts.
        ({"PMI_RANK": "", "PMI_SIZE": ""}, "none", 0, 1),
        ({"PMI_RANK": "", "PMI_SIZE": "", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, "mpi", 1, 2),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": " "}, "none", 0, 1),
        ({"HOROVOD_GLOO_RENDEZVOUS_ADDR": "127.0.0.1", "HOROVOD_RANK": "", "HOROVOD_SIZE": "2"}, "none", 0, 1),
        # A single process of torchrun works like one without torchrun.
        ({"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, "none", 0, 1),
        # Users set the variables of torch.distributed from those of mpirun.
        (
            {
                "OMPI_COMM_WORLD_RANK": "1",
                "OMPI_COMM_WORLD_SIZE": "2",
                "RANK": "1",
                "WORLD_SIZE": "2",
                "LOCAL_RANK": "1",
            },
            "mpi",
            1,
            2,
        ),
        ({**ADDRESS, **TORCHRUN}, "torch", 1, 2),
        ({**ADDRESS, **TORCHRUN, "TORCHELASTIC_RUN_ID": "x"}, "torch", 1, 2),
        # One torchrun on each node, started by srun or mpirun.
        ({**ADDRESS, **TORCHRUN, "TORCHELASTIC_RUN_ID": "x", **BY_SRUN}, "torch", 1, 2),
        (
            {
                **ADDRESS,
                "TORCHELASTIC_RUN_ID": "x",
                "RANK": "3",
                "WORLD_SIZE": "4",
                "OMPI_COMM_WORLD_RANK": "1",
                "OMPI_COMM_WORLD_SIZE": "2",
            },
            "torch",
            3,
            4,
        ),
        ({**ADDRESS, "TORCHELASTIC_RUN_ID": "x", **BY_SRUN}, "mpi", 0, 2),
        # Without LOCAL_RANK, other programs may mean something else by these names.
        ({**ADDRESS, "RANK": "1", "WORLD_SIZE": "2"}, "none", 0, 1),
    ],
)
def test_launchers_are_detected(environ, transport, rank, size):
    found = detect(environ)
    assert (found.transport, found.rank, found.size) == (transport, rank, size)
    assert not found.conflict


GLOO = {"HOROVOD_GLOO_RENDEZVOUS_ADDR": "127.0.0.1"}


@pytest.mark.parametrize(
    ("name", "environ"),
    [
        ("OMPI_COMM_WORLD_RANK", {"OMPI_COMM_WORLD_RANK": "one", "OMPI_COMM_WORLD_SIZE": "2"}),
        ("OMPI_COMM_WORLD_SIZE", {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2.0"}),
        ("PMI_RANK", {"PMI_RANK": "-1", "PMI_SIZE": "2"}),
        ("PMI_RANK", {"PMI_RANK": "2", "PMI_SIZE": "2"}),
        ("PMI_SIZE", {"PMI_RANK": "0", "PMI_SIZE": "x"}),
        ("SLURM_PROCID", {"SLURM_PROCID": "1_0", "SLURM_STEP_NUM_TASKS": "20"}),
        ("SLURM_STEP_NUM_TASKS", {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4(x2)"}),
        ("HOROVOD_RANK", {**GLOO, "HOROVOD_RANK": "?", "HOROVOD_SIZE": "2"}),
        ("HOROVOD_SIZE", {**GLOO, "HOROVOD_RANK": "0", "HOROVOD_SIZE": "two"}),
        ("WORLD_SIZE", {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "all"}),
    ],
)
def test_a_variable_that_is_not_a_number_is_named(name, environ, monkeypatch):
    found = detect(environ)
    assert name in found.conflict
    assert repr(environ[name]) in found.conflict
    with pytest.raises(InputError, match=f"{name} = "):
        connect(launch=found)
    for key, value in environ.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(InputError, match=f"{name} = "):
        alone()


@pytest.mark.parametrize(
    "environ", [TORCHRUN, {**TORCHRUN, "TORCHELASTIC_RUN_ID": "x"}, {**TORCHRUN, "TORCHELASTIC_RUN_ID": "x", **BY_SRUN}]
)
def test_torchruns_variables_without_an_address_are_refused(environ):
    found = detect(environ)
    assert (found.rank, found.size) == (1, 2)
    text = r"not MASTER_ADDR and MASTER_PORT.*torchrun --nproc-per-node 2, mpirun -n 2 or horovodrun -np 2"
    with pytest.raises(InputError, match=text):
        connect(launch=found)


def test_torchruns_port_0_is_refused():
    found = detect({**TORCHRUN, "TORCHELASTIC_RUN_ID": "x", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"})
    assert "but not MASTER_PORT, with which" in found.conflict


def test_each_launcher_has_what_others_ask_it_for():
    for launcher in LAUNCHERS:
        assert launcher.transport in CONNECTIONS
        assert all((launcher.rank_variable, launcher.size_variable, launcher.local_rank_variable))
        environ = {launcher.rank_variable: "1", launcher.size_variable: "3"}
        launch = launcher.launch(environ)
        assert launch == Launch(launcher, 1, 3)
        assert launch.uses_mpi == (launcher.transport == "mpi")
    assert detect({}).transport in CONNECTIONS


@pytest.mark.parametrize(("rank", "said"), [("0", 1), ("1", 0)])
def test_one_process_of_torchrun_reports_it_before_anything_is_written(rank, said, tmp_path, monkeypatch, capsys):
    for name, value in {**TORCHRUN, "RANK": rank}.items():
        monkeypatch.setenv(name, value)
    assert main(["prepare", "digits", "--quiet", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.count("rcdp: error: RANK and WORLD_SIZE = 2 are set as by torchrun") == said
    assert not (tmp_path / "run").exists()


def test_numbers_from_the_environment():
    assert number_from_environment("N", 3, {}) == number_from_environment("N", 3, {"N": ""}) == 3
    assert number_from_environment("N", 3, {"N": " 7 "}) == 7
    with pytest.raises(InputError, match="N = '7x'"):
        number_from_environment("N", 3, {"N": "7x"})


def test_elastic_runs_are_detected():
    gloo = {"HOROVOD_GLOO_RENDEZVOUS_ADDR": "127.0.0.1", "HOROVOD_RANK": "1", "HOROVOD_SIZE": "2"}
    assert not detect(gloo).elastic
    assert detect({**gloo, "HOROVOD_ELASTIC": "1"}).elastic


def test_copies_of_one_rank_are_refused_before_anything_is_written(monkeypatch):
    pytest.importorskip("mpi4py")
    with pytest.raises(InputError, match=r"started 4 ranks, but the MPI library sees 1.*--mpi=pmix"):
        connect(launch=Launch(Slurm(), 0, 4))

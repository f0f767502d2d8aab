"""Which engine and which strategy a training has."""

from __future__ import annotations

import logging
import sys

import pytest
import torch

from rcdp_hpc.config import ParallelSection, load_config
from rcdp_hpc.config.choices import ENGINES
from rcdp_hpc.config.keys import refuse_other_settings
from rcdp_hpc.errors import InputError
from rcdp_hpc.parallel import choose
from rcdp_hpc.parallel.choose import choose_engine, first_problem, strategy_for
from rcdp_hpc.parallel.horovod import HorovodEngine
from rcdp_hpc.parallel.independent import IndependentReplicas
from rcdp_hpc.parallel.local_sgd import LocalSGD
from rcdp_hpc.parallel.single import SingleProcessEngine
from rcdp_hpc.parallel.synchronous import Synchronous
from rcdp_hpc.parallel.torch_distributed import TorchEngine
from rcdp_hpc.runtime.comm.interfaces import GLOO_INTERFACE, _interfaces
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.user_code import load_choice
from rcdp_hpc.training.session import decisive_settings
from tests.parallel.thread_ranks import on_ranks


@pytest.fixture
def horovod_on(monkeypatch):
    """Let only some ranks have Horovod."""

    def let(*ranks: int) -> None:
        def obstacle(comm) -> str:
            return "" if comm.rank in ranks else "Horovod for torch cannot be imported"

        monkeypatch.setattr(HorovodEngine, "obstacle", obstacle)

    return let


def test_every_engine_of_the_table_can_be_imported():
    engines = [load_choice(ENGINES, name) for name in ENGINES.names if name != "auto"]
    assert engines == [HorovodEngine, TorchEngine]


@pytest.mark.parametrize(
    ("name", "having", "engine", "reason"),
    [
        ("auto", (0, 1), HorovodEngine, "parallel.engine = auto"),
        ("auto", (0,), TorchEngine, "Horovod cannot run: rank 1: Horovod for torch cannot be imported"),
        ("auto", (), TorchEngine, "Horovod cannot run: Horovod for torch cannot be imported"),
        ("horovod", (0, 1), HorovodEngine, "parallel.engine = horovod"),
        ("torch", (0, 1), TorchEngine, "parallel.engine = torch"),
    ],
)
def test_the_engine_that_every_rank_can_use_is_chosen(name, having, engine, reason, horovod_on):
    horovod_on(*having)
    for found, why in on_ranks(2, lambda comm: choose_engine(comm, ParallelSection(engine=name))):
        assert found is engine
        assert reason in why


def test_an_engine_that_a_rank_lacks_is_refused_on_all_ranks(horovod_on):
    horovod_on(0, 2)

    def work(comm):
        with pytest.raises(InputError, match=r"parallel.engine = 'horovod': Horovod cannot run: rank 1: ") as caught:
            choose_engine(comm, ParallelSection(engine="horovod"))
        return caught.value.agreed

    assert on_ranks(3, work) == [True] * 3


def test_ranks_that_name_different_engines_are_refused_on_all_ranks():
    names = ["horovod", "torch", "torch"]

    def work(comm):
        with pytest.raises(InputError, match=r"'horovod' on rank 0, 'torch' on ranks 1, 2\. ") as caught:
            choose_engine(comm, ParallelSection(engine=names[comm.rank]))
        return caught.value.agreed

    assert on_ranks(3, work) == [True] * 3


def test_a_missing_horovod_is_an_obstacle(monkeypatch):
    assert HorovodEngine.obstacle(SingleProcess()) == ""
    for name in [name for name in sys.modules if name.partition(".")[0] == "horovod"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "horovod", None)
    assert "Horovod for torch cannot be imported" in HorovodEngine.obstacle(SingleProcess())


def test_a_horovod_without_mpi_cannot_connect_the_ranks_of_mpi(monkeypatch):
    import horovod.torch as hvd

    comm = SingleProcess()
    comm.library = "MPI"
    monkeypatch.setattr(hvd, "mpi_built", lambda: False)
    assert "built without MPI" in HorovodEngine.obstacle(comm)


def test_horovod_cannot_connect_the_ranks_of_some_launchers():
    comm = SingleProcess()
    comm.supports_horovod = False
    assert "it cannot connect ranks that" in HorovodEngine.obstacle(comm)


def test_elastic_runs_are_refused_with_torch(monkeypatch):
    environment = {
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": "127.0.0.1", "HOROVOD_RANK": "0", "HOROVOD_SIZE": "2", "HOROVOD_ELASTIC": "1",
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def work(comm):
        with pytest.raises(InputError, match=r"parallel.engine = 'torch': .*elastic runs.*only Horovod supports"):
            choose_engine(comm, ParallelSection(engine="torch"))

    on_ranks(2, work)


def test_other_versions_are_refused(monkeypatch):
    monkeypatch.setattr(TorchEngine, "version", lambda: f"torch {next(versions)}")
    versions = iter(("1", "2"))
    with pytest.raises(InputError, match=r"the same versions, but rank 0 has torch . and rank 1 has torch "):
        on_ranks(2, lambda comm: strategy_for(comm, 60, ParallelSection(engine="torch")))


@pytest.mark.parametrize(
    ("settings", "strategy"),
    [({}, Synchronous), ({"local_steps": 4}, LocalSGD), ({"replicas": "averaged"}, IndependentReplicas)],
)
def test_the_strategy_holds_the_engine_and_the_log_names_it(settings, strategy, monkeypatch, caplog):
    monkeypatch.setenv(GLOO_INTERFACE, next(one.name for one in _interfaces() if one.is_loopback))
    caplog.set_level(logging.INFO, choose.__name__)
    for found in on_ranks(2, lambda comm: strategy_for(comm, 60, ParallelSection(engine="torch", **settings))):
        assert type(found) is strategy
        assert type(found.engine) is TorchEngine
    assert "2 ranks train with torch.distributed, Gloo (parallel.engine = torch)" in caplog.messages


def test_one_rank_needs_no_engine():
    found = strategy_for(SingleProcess(), 60, ParallelSection(engine="horovod", local_steps=4))
    assert type(found) is Synchronous
    assert type(found.engine) is SingleProcessEngine
    assert found.sum(torch.ones(2), "n").tolist() == [1.0, 1.0]


def test_a_problem_that_all_ranks_share_has_no_rank():
    assert first_problem(["", ""]) == ""
    assert first_problem(["no", "no"]) == "no"
    assert first_problem(["", "no"]) == "rank 1: no"


def test_a_training_may_go_on_with_another_engine():
    begun, now = (
        decisive_settings(load_config("digits", [f"parallel.engine={name}"])) for name in ("horovod", "torch")
    )
    refuse_other_settings("last.pt", begun, now, "training")


def test_horovods_settings_have_no_effect_on_torch(caplog):
    load_config("digits", ["parallel.engine=torch", "parallel.horovod.fusion_mib=4"])
    assert (
        "parallel.horovod.fusion_mib = 4 has no effect; it is used with parallel.engine = auto or horovod"
        in caplog.text
    )

"""What is reported when an engine fails: its own text always, and the loss of a rank only if it may be one."""

from __future__ import annotations

import logging
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from rcdp_hpc.runtime import job
from rcdp_hpc.runtime.comm.lost_ranks import (
    EngineFaultError,
    LostRankError,
    engine_fault,
    is_lost_rank,
    lost_rank_text,
    reason_of,
)
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.comm.torch_world import TorchWorld
from rcdp_hpc.runtime.job import run_on_all_ranks

DUPLICATE = """[../torch/csrc/distributed/NCCLUtils.hpp:275] NCCL error in: ProcessGroupNCCL.cpp:94, invalid usage \
(run with NCCL_DEBUG=WARN for details), NCCL version 2.27.5
ncclInvalidUsage: This usually reflects invalid usage of NCCL library.
Last error:
Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1b000
Exception raised from checkForNCCLErrorsInternal at ../torch/csrc/ProcessGroupNCCL.cpp:2000 (most recent call first):
frame #0: c10::Error::Error(c10::SourceLocation, std::string) + 0x80 (0x7f in libc10.so)
"""
CLOSED = "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:21399"
SHUT_DOWN = "Horovod has been shut down. This was caused by an exception on one of the ranks."


@pytest.fixture
def horovods_error(monkeypatch) -> type[Exception]:
    """Horovod's exception, without Horovod."""
    module = ModuleType("horovod.common.exceptions")
    module.HorovodInternalError = type("HorovodInternalError", (RuntimeError,), {})
    monkeypatch.setitem(sys.modules, "horovod.common.exceptions", module)
    return module.HorovodInternalError


def test_the_cause_in_the_last_line_of_an_error_is_kept():
    found = reason_of(RuntimeError(DUPLICATE))
    assert found.startswith("NCCL error in: ProcessGroupNCCL.cpp:94, invalid usage (run with")
    assert found.endswith("Last error:; Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1b000")
    assert reason_of(RuntimeError(CLOSED)) == "Connection closed by peer [127.0.0.1]:21399"
    assert reason_of(RuntimeError("Application timeout. More about it.")) == "Application timeout. More about it"
    assert reason_of(RuntimeError("")) == "RuntimeError"


def test_an_engines_own_fault_is_not_a_lost_rank(horovods_error):
    for error in (
        horovods_error("ncclCommInitRank failed: invalid usage"),
        horovods_error("ncclAllReduce failed: unhandled cuda error"),
        LostRankError("torch.distributed (NCCL)", reason_of(RuntimeError(DUPLICATE))),
    ):
        assert not is_lost_rank(error)
        assert (error.message if isinstance(error, LostRankError) else str(error)) in str(engine_fault(error))
    for error in (horovods_error(SHUT_DOWN), LostRankError("torch.distributed (Gloo)", "Connection closed by peer")):
        assert is_lost_rank(error)
        assert engine_fault(error) is None
    assert engine_fault(RuntimeError("CUDA error: out of memory")) is None


def test_the_loss_of_a_rank_is_reported_with_the_engines_text(horovods_error):
    comm = SimpleNamespace(rank=1, size=2)
    for text in (SHUT_DOWN, "ncclAllReduce failed: unhandled system error", "text of an unknown kind"):
        found = lost_rank_text(horovods_error(text), comm, 60)
        assert "rank 1 of 2 has lost another rank" in found
        assert f"Horovod reports: {text.rstrip('.')}. " in found


class Aborted(BaseException):
    pass


class TwoRanks(SingleProcess):
    """A rank that another one reported about already."""

    size = 2
    rank = 1

    def is_first_to_report(self):
        return False

    def abort(self, code):
        raise Aborted(code)


def test_a_fault_is_always_printed_and_a_loss_by_the_first_rank_only(horovods_error, monkeypatch, caplog):
    monkeypatch.setattr(job, "connect", lambda stall: TwoRanks())

    def failing(text):
        def work(comm):
            raise horovods_error(text)

        with pytest.raises(Aborted, match="1"):
            run_on_all_ranks(work)
        return caplog.messages

    caplog.set_level(logging.ERROR)
    assert failing(SHUT_DOWN) == []
    (line,) = failing("ncclCommInitRank failed: invalid usage")
    assert "rank 1 of 2 (host " in line
    assert "Horovod failed: ncclCommInitRank failed: invalid usage." in line
    assert "Traceback" not in line


@pytest.mark.parametrize(("text", "kind"), [(DUPLICATE, EngineFaultError), (CLOSED, LostRankError)])
def test_an_error_of_torch_keeps_its_text(text, kind):
    def fail(*_):
        raise RuntimeError(text)

    world = TorchWorld(SingleProcess(), 60, SimpleNamespace(allreduce=fail, broadcast=fail))
    for work in (world.sum_in_place, world.broadcast_in_place):
        with pytest.raises(kind) as caught:
            work([torch.ones(1)])
        assert reason_of(RuntimeError(text)) in str(caught.value)

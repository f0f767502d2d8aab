"""Collective work: values, waits and errors."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest
from launch import python, run_ranks

from rcdp_hpc.errors import InputError, StageFailedError
from rcdp_hpc.runtime.comm.collective import agree, run_on_root
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.files import explain_os_error

HEAD = (
    "import time, numpy as np\n"
    "from rcdp_hpc.runtime.comm.connect import connect\n"
    "from rcdp_hpc.runtime.comm.collective import agree, run_on_root\n"
    "from rcdp_hpc.errors import InputError, DataDamagedError\n"
    "comm = connect()\n"
)


def fail(message: str) -> None:
    raise InputError(message)


def test_a_single_process_returns_and_raises_directly():
    comm = SingleProcess()
    assert run_on_root(comm, lambda: 7) == agree(comm, lambda: 7) == 7
    for together in (run_on_root, agree):
        with pytest.raises(InputError, match=r"^why$"):
            together(comm, lambda: fail("why"))


class LosingARank(SingleProcess):
    """A communicator of two ranks, of which the other is lost while rank 0 works."""

    size = 2

    def allreduce(self, array, op="sum"):
        raise ConnectionResetError("rank 1 is lost")


def test_work_of_rank_0_ends_before_the_loss_of_a_rank_is_raised():
    done = []
    with pytest.raises(ConnectionResetError):
        run_on_root(LosingARank(), lambda: time.sleep(0.3) or done.append(True))
    assert done


@pytest.mark.mpi
def test_ranks_that_wait_for_rank_0_sleep():
    code = HEAD + (
        "start = time.process_time()\n"
        "value = run_on_root(comm, lambda: time.sleep(4) or 'done')\n"
        "spent = comm.allgather((value, time.process_time() - start))\n"
        "if comm.is_root: print('SPENT', spent)\n"
    )
    done = run_ranks(3, python(code), timeout=60)
    assert done.returncode == 0, done.stdout
    spent = eval(done.stdout.partition("SPENT")[2].splitlines()[0])
    assert [value for value, _ in spent] == ["done"] * 3
    assert all(seconds < 2 for _, seconds in spent), spent


@pytest.mark.mpi
def test_an_error_of_rank_0_is_raised_by_all():
    code = HEAD + (
        "def work(): raise InputError('why')\n"
        "try: run_on_root(comm, work)\n"
        "except InputError as error: print('GOT', error, error.agreed)\n"
    )
    done = run_ranks(3, python(code), timeout=60)
    assert done.stdout.count("GOT why True") == 3


@pytest.mark.mpi
def test_the_error_of_the_lowest_failing_rank_is_raised_by_all():
    code = HEAD + (
        "def work():\n"
        "    if comm.rank: raise DataDamagedError(f'file of {comm.rank}')\n"
        "try: agree(comm, work)\n"
        "except DataDamagedError as error: print('GOT', error)\n"
    )
    done = run_ranks(4, python(code), timeout=60)
    assert done.stdout.count("GOT rank 1: file of 1") == 4


@pytest.mark.mpi
def test_rows_are_scattered_and_gathered_in_order_and_memory_is_shared():
    code = HEAD + (
        "rows = np.arange(22.0).reshape(11, 2)\n"
        "mine = comm.scatter_rows(rows if comm.is_root else None, 2)\n"
        "back = comm.gather_rows(mine)\n"
        "assert back is None or (back == rows).all()\n"
        "empty = comm.gather_rows(comm.scatter_rows(np.empty((0, 3)) if comm.is_root else None, 3))\n"
        "assert empty is None or empty.shape == (0, 3)\n"
        "made = []\n"
        "make = lambda: made.append(1) or {'a': np.arange(5), 'none': np.empty((0, 2), np.float32)}\n"
        "shared = comm.share_arrays(make)\n"
        "assert shared['a'].tolist() == [0, 1, 2, 3, 4] and shared['none'].shape == (0, 2)\n"
        "assert not shared['a'].flags.writeable and sum(comm.allgather(len(made))) == 1\n"
        "if comm.is_root: shared['a'].flags.writeable = True; shared['a'][3] = 70\n"
        "comm.barrier()\n"
        "assert shared['a'].tolist() == [0, 1, 2, 70, 4], shared['a']\n"
        "del shared; comm.close()\n"
        "print('FINE')\n"
    )
    done = run_ranks(3, python(code), timeout=60)
    assert done.stdout.count("FINE") == 3, done.stdout


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.EACCES, InputError, "cannot be written"),
        (errno.EROFS, InputError, "cannot be written"),
        (errno.ENOSPC, StageFailedError, "no space left"),
        (errno.EDQUOT, StageFailedError, "quota is used up"),
        (errno.EIO, StageFailedError, "x"),
    ],
)
def test_errors_of_a_folder_are_explained(number, kind, words, tmp_path):
    error = explain_os_error(OSError(number, "x"), Path(tmp_path / "deep" / "run"))
    assert type(error) is kind
    assert words in str(error)
    assert "deep" in str(error)

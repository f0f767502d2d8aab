"""Real ranks in an environment in which Horovod is not installed: it is hidden from Python."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from launch import REPOSITORY, python, rcdp, run_ranks
from whole_runs import flags

pytestmark = pytest.mark.mpi

# Python imports this module at its start.
SITECUSTOMIZE = """
import sys


class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "horovod":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Hidden())
"""
QUICK = flags(
    "reservoir.nodes=40", "search.population=4", "search.generations=1", "search.train_rows=200",
    "search.validation_rows=100", "training.epochs=3", "readout.hidden=16", "readout.outputs=16",
)  # fmt: skip


@pytest.fixture
def without_horovod(tmp_path) -> dict[str, str]:
    """Variables of an environment without Horovod."""
    folder = tmp_path / "hidden"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    return {"PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}"}


def test_all_stages_run_on_two_ranks(tmp_path: Path, without_horovod):
    out = tmp_path / "run"
    done = run_ranks(2, rcdp("run", "digits", "--out", str(out), *QUICK), env=without_horovod)
    assert done.returncode == 0, done.stdout
    assert "2 ranks train with torch.distributed, Gloo (parallel.engine = auto; Horovod cannot run: " in done.stdout
    assert "No module named 'horovod'" in done.stdout
    assert "test accuracy" in done.stdout
    assert (out / "report/summary.json").is_file()


def test_horovod_by_name_is_refused_before_the_data_is_prepared(tmp_path: Path, without_horovod):
    out = tmp_path / "run"
    command = rcdp("run", "digits", "--out", str(out), *QUICK, *flags("parallel.engine=horovod"))
    done = run_ranks(2, command, env=without_horovod)
    assert done.returncode == 2, done.stdout
    assert done.stdout.count("rcdp: error: ") == 1
    assert "parallel.engine = 'horovod'" in done.stdout
    assert "Traceback" not in done.stdout
    assert "prepare on one process" not in done.stdout
    assert not (out / "shards").exists()


def test_ranks_that_name_different_engines_are_refused_before_the_data_is_prepared(tmp_path: Path):
    out = tmp_path / "run"
    code = (
        "import rcdp_hpc\n"
        "from rcdp_hpc.errors import InputError\n"
        "comm = rcdp_hpc.connect()\n"
        "engine = ('auto', 'torch')[comm.rank]\n"
        "config = {'data': {'source': 'digits'}, 'parallel': {'engine': engine}}\n"
        "try:\n"
        f"    rcdp_hpc.run(config, {str(out)!r}, comm)\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    done = run_ranks(2, python(code))
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("parallel.engine is 'auto' on rank 0, 'torch' on rank 1.") == 2
    assert not out.exists()


def test_horovod_is_hidden_here(without_horovod):
    """Otherwise the tests above would prove nothing."""
    done = run_ranks(0, python("import horovod"), env=without_horovod)
    assert done.returncode == 1
    assert "No module named 'horovod'" in done.stdout

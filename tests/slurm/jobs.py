"""Jobs of tests: submitting, waiting, reading results."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import torch
from launch import BIN, REPOSITORY, environment, rcdp
from slurm.cluster import Cluster

# Small enough for many jobs on a small machine; results are tested elsewhere. All settings that depend on the machine
# by default are fixed, so that runs can be compared.
QUICK = (
    "reservoir.nodes=60", "reservoir.kernel=dense-fp32", "search.population=6", "search.generations=2",
    "search.train_rows=300", "search.validation_rows=100", "training.epochs=4", "readout.hidden=16",
    "readout.outputs=16", "training.threads=1", "training.patience=1000", "run.progress=false",
)  # fmt: skip
# Long enough to be interrupted.
LONGER = ("search.generations=40", "search.population=8", "reservoir.nodes=100", "training.epochs=60")
# On both nodes.
RANKS = ("--nodes=2", "--ntasks=2", "--cpus-per-task=1", "--time=10")
# Time limit of actions that take seconds on an idle machine.
PATIENCE = 480.0
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY", "DEADLINE"}


class Slurm:
    """The cluster as seen by a user, from a folder with the job scripts.

    Parameters
    ----------
    cluster : Cluster
    folder : Path
        The user's working directory.
    """

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        (folder / "slurm").symlink_to(REPOSITORY / "slurm")

    def call(self, *command: str | Path, check: bool = True, **variables: str) -> str:
        """Run a command as the user and return its output."""
        extra = {"SLURM_CONF": str(self.cluster.conf), "RCDP_VENV": str(BIN.parent), **variables}
        done = subprocess.run(
            list(map(str, command)), cwd=self.folder, env=environment(extra), timeout=PATIENCE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def config(self, *settings: str) -> Path:
        """Write a quick configuration."""
        flags = [part for setting in (*QUICK, *settings) for part in ("--set", setting)]
        path = self.folder / "quick.toml"
        # Log messages go to stderr and are not a part of the file.
        self.call("bash", "-ec", f"{shlex.join(rcdp('config', 'digits', *flags))} > {shlex.quote(str(path))}")
        return path

    def sbatch(self, script: str, *options: str, config: Path | None = None, run: str = "run", **variables: str) -> str:
        """Submit a script of slurm/ and return the number of the job."""
        names = {"RUN": run, **({"CONFIG": str(config)} if config else {}), **variables}
        return self.call("sbatch", "--parsable", *options, f"slurm/{script}", **names).strip()

    def job(self, number: str) -> dict[str, str]:
        """Return Slurm's fields of a job."""
        text = self.call("scontrol", "-o", "show", "job", number)
        return dict(re.findall(r"(\w+)=(\S*)", text.splitlines()[0]))

    def log(self) -> str:
        """Return the logs of all jobs in the user's folder."""
        paths = sorted([*self.folder.glob("*.log"), *self.folder.glob("*/logs/*.log")])
        return "\n".join(f"== {path.relative_to(self.folder)}\n{path.read_text()}" for path in paths)

    def wait_for(self, happened: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
        try:
            self.cluster.wait_for(happened, what, seconds)
        except RuntimeError as error:
            raise AssertionError(f"{error}\n{self.call('squeue')}\n{self.log()}") from None

    def wait(self, number: str, seconds: float = PATIENCE) -> dict[str, str]:
        """Wait until a job has ended and return Slurm's fields of it."""
        self.wait_for(lambda: self.job(number)["JobState"] in OVER, f"job {number} to end", seconds)
        return self.job(number)

    def done(self, number: str, seconds: float = PATIENCE) -> dict[str, str]:
        """Wait until a job has ended, and check that it succeeded."""
        job = self.wait(number, seconds)
        assert job["JobState"] == "COMPLETED", f"{job}\n{self.log()}"
        return job

    def requeued(self, number: str, count: int = 1) -> None:
        """Wait until a job was requeued `count` times; fail if it ends before."""

        def again_or_over() -> bool:
            job = self.job(number)
            return int(job["Restarts"]) >= count or job["JobState"] in OVER

        self.wait_for(again_or_over, f"requeue {count} of job {number}")
        job = self.job(number)
        assert int(job["Restarts"]) >= count, f"over before requeue {count}: {job}\n{self.log()}"

    def state(self, stage: str, run: str = "run") -> dict:
        """Return the recorded state of a stage in a run directory; empty if there is none."""
        path = self.folder / run / "state" / f"{stage}.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def lines(self, name: str, run: str = "run") -> list[dict]:
        """Return the JSON lines of a file in a run directory."""
        path = self.folder / run / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def cancel_all(self) -> None:
        """Cancel all jobs, and wait until they have ended."""
        self.call("scancel", "--user", "root", check=False)
        self.cluster.wait_for(lambda: not self.call("squeue", "-h").strip(), "cancelled jobs to go")


def site(folder: Path, **settings: str) -> Path:
    """Write a site file: the default one, followed by variables."""
    path = folder / "site.sh"
    shipped = (REPOSITORY / "rcdp_hpc/cluster/site.sh").read_text()
    path.write_text(shipped + "".join(f"{name}={value}\n" for name, value in settings.items()))
    return path


def history(run: Path) -> list[dict]:
    """Return the results of a search without times."""
    lines = [json.loads(line) for line in (run / "search/history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "timing"} for line in lines]


def assert_same(run: Path, other: Path) -> None:
    """Check that two runs have the same candidates and weights, to the bit."""
    assert history(run) == history(other)
    mine, theirs = (
        torch.load(path / "train/last.pt", weights_only=True)["trainer"]["network"] for path in (run, other)
    )
    for name, value in theirs.items():
        assert torch.equal(mine[name], value), name

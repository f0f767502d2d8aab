"""Complete and interrupted runs that trials copy, and the commands that read them."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from campaign import hooks, inputs
from campaign.children import Done, rcdp

BUILD_LIMIT = 300.0
SBATCH = '#!/bin/sh\necho x >>"$0.numbers"\nwc -l <"$0.numbers"\n'
NO_SLURM = "#!/bin/sh\necho 'no Slurm here' >&2\nexit 1\n"


@dataclass(frozen=True)
class Place:
    """The folder of one trial, and the environment of its commands.

    Attributes
    ----------
    folder : Path
        Has ``run`` (the run directory), ``cache`` and ``tmp``, and ``code`` if the trial has its own user module.
    work : Path
        Folder of the campaign, with ``data`` and ``bin``.
    """

    folder: Path
    work: Path

    @property
    def run(self) -> Path:
        """The run directory."""
        return self.folder / "run"

    @property
    def data(self) -> Path:
        """The data of all runs."""
        return self.work / "data"

    @property
    def code(self) -> Path:
        """The folder of the user's module. Consent to run code is for one path, so most trials share this folder."""
        folder = self.folder / "code"
        return folder if folder.exists() else self.data / "code"

    @property
    def env(self) -> dict[str, str]:
        """Additional environment variables of the commands."""
        return {
            "PATH": f"{self.work / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.code),
            "TMPDIR": str(self.folder / "tmp"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }

    def make(self) -> Place:
        """Create the folder and its temporary folder, and return this place."""
        (self.folder / "tmp").mkdir(parents=True)
        return self

    def rcdp(self, words: Sequence[str], limit: float = BUILD_LIMIT, before: Callable[[], None] | None = None) -> Done:
        """Run a command, in which RUN, DATA and OUT stand for paths of this place."""
        return rcdp(self.words(words), self.folder, limit, env=self.env, before=before)

    def words(self, words: Sequence[str]) -> list[str]:
        """Return the words of a command with the paths of this place."""
        places = {"RUN": str(self.run), "DATA": str(self.data), "OUT": str(self.folder / "out")}
        return [re.sub("RUN|DATA|OUT", lambda found: places[found.group()], word) for word in words]


@dataclass(frozen=True)
class Command:
    """A command that reads a run.

    Attributes
    ----------
    words : tuple of str
        Words of the command line, in which RUN, DATA and OUT stand for paths of a trial.
    results : tuple of str
        Names of its results in `campaign.results`.
    """

    words: tuple[str, ...]
    results: tuple[str, ...]

    @property
    def name(self) -> str:
        """The command as a text for reports."""
        return " ".join(self.words)


def command(line: str, *results: str) -> Command:
    """Return a command from a line."""
    return Command(tuple(line.split()), results)


VERIFY = command("verify RUN", "stdout")
STATUS = command("status RUN", "stdout")
INSPECT = command("inspect RUN --ranks 3", "stdout")
PLAN = command("plan --out RUN", "stdout")
DRY_RUN = command("submit --out RUN --dry-run", "stdout")
SUBMIT = command("submit --out RUN", "jobs")
EVALUATE = command("evaluate --out RUN", "report")
TRAIN = command("train --out RUN", "model", "metrics")
TRAIN_AGAIN = command("train --out RUN --restart", "model", "metrics")
SEARCH = command("search --out RUN", "search")
SEARCH_AGAIN = command("search --out RUN --restart", "search")
SEARCH_REPORT = command("search --out RUN --report", "stdout")
RUN_ALL = command("run --out RUN", "shards", "search", "model", "metrics", "report")
MORE_EPOCHS = command("train --out RUN --set training.epochs=6", "model", "metrics")
PREDICT_TABLE = command("predict RUN DATA/new.csv --to OUT.csv", "predictions")
PREDICT_IMAGES = command("predict RUN DATA/new.npz --to OUT.npz", "predictions")
PREDICT_SERIES = command("predict RUN DATA/new.ts --to OUT.csv", "predictions")
FOLDS = command("crossvalidate DATA/folds.toml --out RUN --folds 2", "folds")
MEASURED = command("plan DATA/measured.toml")
READERS = (VERIFY, STATUS, INSPECT, PLAN, DRY_RUN)
STAGES = (EVALUATE, TRAIN_AGAIN, SEARCH_AGAIN, RUN_ALL)


@dataclass(frozen=True)
class Run:
    """A run directory that trials copy.

    Attributes
    ----------
    build : callable
        Builds the run in a place.
    commands : tuple of Command
        Commands that read the run.
    """

    build: Callable[[Place], None]
    commands: tuple[Command, ...]


def _do(place: Place, line: str, code: int = 0, before: Callable[[], None] | None = None) -> None:
    done = place.rcdp(line.split(), before=before)
    if done.code != code or done.timed_out:
        raise RuntimeError(f"rcdp {line} ended with {done.code}, expected {code}:\n{done.text[-3000:]}")


def _whole(name: str) -> Callable[[Place], None]:
    def build(place: Place) -> None:
        _do(place, f"submit DATA/{name}.toml --out RUN")
        _do(place, f"run DATA/{name}.toml --out RUN")
        if name in ("table", "code"):
            _do(place, "search --out RUN --report")

    return build


def _prepared(place: Place) -> None:
    _do(place, "prepare DATA/table.toml --out RUN")


def _search_stopped(place: Place) -> None:
    _do(place, "prepare DATA/table.toml --out RUN")
    stop = hooks.send_at(signal.SIGUSR1, 2, hooks.moves_to("search/checkpoint.npz"))
    _do(place, "search --out RUN", 75, stop)


def _training_stopped(place: Place) -> None:
    _do(place, "prepare DATA/table.toml --out RUN")
    _do(place, "search --out RUN")
    _do(place, "train --out RUN", 75, hooks.send_at(signal.SIGUSR1, 2, hooks.moves_to("train/last.pt")))


def _training_killed(place: Place) -> None:
    _do(place, "prepare DATA/table.toml --out RUN")
    _do(place, "search --out RUN")
    _do(place, "train --out RUN", -signal.SIGKILL, hooks.send_at(signal.SIGKILL, 3, hooks.moves_to("train/last.pt")))


def _measured(place: Place) -> None:
    # Writes measurements to the user's cache.
    _do(place, MEASURED.name)


def _folds(place: Place) -> None:
    _do(place, "crossvalidate DATA/folds.toml --out RUN --folds 2")


RUNS: Mapping[str, Run] = {
    "fresh": Run(lambda place: None, ()),
    "prepared": Run(_prepared, ()),
    "table": Run(_whole("table"), (*READERS, *STAGES, MORE_EPOCHS, PREDICT_TABLE, SEARCH_REPORT, SUBMIT)),
    "series": Run(_whole("series"), (*READERS, *STAGES, PREDICT_SERIES)),
    "images": Run(_whole("images"), (VERIFY, STATUS, EVALUATE, RUN_ALL, PREDICT_IMAGES)),
    "code": Run(_whole("code"), (*READERS, *STAGES, MORE_EPOCHS, PREDICT_TABLE, SEARCH_REPORT)),
    "search-stopped": Run(_search_stopped, (SEARCH, STATUS, RUN_ALL, SEARCH_REPORT, PLAN)),
    "training-stopped": Run(_training_stopped, (TRAIN, STATUS, EVALUATE, RUN_ALL)),
    "training-killed": Run(_training_killed, (TRAIN, STATUS, RUN_ALL)),
    "measured": Run(_measured, (MEASURED,)),
    "folds": Run(_folds, (STATUS, FOLDS)),
}


def begin(work: Path) -> None:
    """Write the inputs of all runs to the folder of the campaign."""
    inputs.write_all(work / "data")
    (work / "bin").mkdir()
    for name, text in {"sbatch": SBATCH, **dict.fromkeys(("squeue", "sacct", "scontrol", "sinfo"), NO_SLURM)}.items():
        path = work / "bin" / name
        path.write_text(text)
        path.chmod(0o755)
    for name in ("trials", "runs", "outcomes", "references"):
        (work / name).mkdir(exist_ok=True)


def build(name: str, work: Path) -> None:
    """Build a run in the folder of the campaign."""
    place = Place(work / "runs" / name, work).make()
    (place.folder / "cache").mkdir()
    RUNS[name].build(place)
    shutil.rmtree(place.folder / "tmp")


def copy(name: str, place: Place) -> Place:
    """Copy a run into the place of a trial."""
    shutil.copytree(place.work / "runs" / name, place.folder, symlinks=True)
    (place.folder / "tmp").mkdir(exist_ok=True)
    return place


def remove(place: Place) -> None:
    """Remove the folder of a trial."""
    shutil.rmtree(place.folder, ignore_errors=True)

"""Methods of a comparison that take moments, for tests; some fail."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np

from rcdp_hpc.comparison.methods.base import Cell, Method, Outcome
from rcdp_hpc.config import with_settings
from rcdp_hpc.data.shards.reader import open_shards
from rcdp_hpc.errors import InputError
from rcdp_hpc.evaluation.confusion import result_of_test
from rcdp_hpc.model.metrics import confusion_matrix
from rcdp_hpc.pipeline.stages import StageOptions, run_with_options
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.collective import agreed, run_on_root

SEARCH = {
    "reservoir.nodes": 20, "reservoir.kernel": "dense-fp32", "reservoir.batch_rows": 64, "readout.kind": "ridge",
    "search.evaluation": "ridge", "search.train_rows": 200, "search.validation_rows": 100, "training.baseline": False,
}  # fmt: skip


class Means(Method):
    """The class whose mean is nearest."""

    noise = 0.0

    def run(self, cell: Cell) -> Outcome:
        return run_on_root(cell.comm, lambda: self._outcome(cell))

    def _outcome(self, cell: Cell) -> Outcome:
        shards = open_shards(cell.config, cell.run.shards)
        train, validation, test = (
            shards.read(split, 0, shards.rows(split)) for split in ("train", "validation", "test")
        )
        classes = range(len(shards.classes))
        x = train.x.reshape(len(train.x), -1).astype(np.float64)
        x += np.random.default_rng(cell.config.run.seed).normal(0, 1, x.shape) * self.noise
        means = np.stack([x[train.y == label].mean(0) for label in classes])

        def predicted(rows):
            values = rows.x.reshape(len(rows.x), 1, -1)
            return ((values - means) ** 2).sum(2).argmin(1)

        answers = predicted(test)
        self.keep(cell.run.report, test, answers)
        confusion = confusion_matrix(test.y, answers, len(classes))
        return Outcome(
            validation_accuracy=float(np.mean(predicted(validation) == validation.y)),
            test=result_of_test(confusion, shards.classes),
            parameters=means.size,
            timing={"train": 0.1, "evaluate": 0.2},
        )

    def keep(self, report: Path, test, answers) -> None:
        report.mkdir(parents=True, exist_ok=True)
        lines = [
            f"train,{row},{'yes' if right else 'no'}"
            for row, right in zip(test.source_index.tolist(), (answers == test.y).tolist(), strict=True)
        ]
        (report / "predictions.csv").write_text("\n".join(["part,row,correct", *lines]) + "\n")


class NoisyMeans(Means):
    """The same with wrong means."""

    noise = 20.0


class Search(Method):
    """A small reservoir, searched by the stages of a run."""

    def run(self, cell: Cell) -> Outcome:
        budget = {"search.population": cell.budget.population, "search.generations": cell.budget.generations}
        config = with_settings(cell.config, {**SEARCH, **budget}, "of the test")
        found = run_with_options(("search", "train", "evaluate"), config, cell.run.path, cell.comm, StageOptions())
        return Outcome(
            found["train"]["validation_accuracy"], found["evaluate"], found["search"]["values"],
            found["search"]["evaluations"], 20, {"search": 1.0},
        )  # fmt: skip


class FailsWithSeed2(Means):
    """Refuses one of the seeds, unless the environment says otherwise."""

    def run(self, cell: Cell) -> Outcome:
        if cell.config.run.seed == 2 and "MENDED" not in os.environ:
            raise agreed(InputError("seed 2 is not to its taste."))
        return super().run(cell)


class Crashes(Method):
    """A method with a defect."""

    def run(self, cell: Cell) -> Outcome:
        return {}["nothing"]


class Unfinished(Method):
    """Returns no outcome, or one that JSON cannot hold."""

    def run(self, cell: Cell) -> Outcome:
        scores = {"accuracy": 0.5, "macro_f1": float("nan"), "recall": [1.0]}
        return Outcome(0.5, scores) if cell.config.run.seed == 1 else 0.5


class OutOfMemory(Method):
    """A method that needs too much."""

    def run(self, cell: Cell) -> Outcome:
        raise MemoryError("1 TiB")


class OnlySounds(Method):
    """A method for other data."""

    def problem(self, config, facts):
        return f"it needs sounds, not {facts.kind}"

    def run(self, cell: Cell) -> Outcome:
        raise AssertionError("it was refused")


class KilledOnce(Search):
    """Kills its process in the middle of its first start with seed 2."""

    def run(self, cell: Cell) -> Outcome:
        mark = Path(os.environ["KILLED"])
        if cell.config.run.seed == 2 and not mark.exists():
            config = with_settings(cell.config, {**SEARCH, "search.population": 2, "search.generations": 2}, "here")
            run_with_options(("search",), config, cell.run.path, cell.comm, StageOptions())
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(cell)


class AsksToStop(Means):
    """Receives a stop signal in its first cell."""

    def run(self, cell: Cell) -> Outcome:
        outcome = super().run(cell)
        if cell.config.run.seed == 1:
            signals._received.append(signal.SIGTERM)
        return outcome


class NoMethod:
    """Not derived from Method."""

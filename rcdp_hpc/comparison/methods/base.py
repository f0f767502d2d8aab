"""What a method of a comparison is: its cell, its budget and its outcome."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from typing import Any

from rcdp_hpc.config import Config, DataFacts
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.rundir import RunDirectory


@dataclass(frozen=True)
class Budget:
    """What a method may use in one cell, the same for every method.

    Attributes
    ----------
    population, generations : int
        Candidates of a generation, and generations of the search.
    seconds : float
        Wall-clock time of search and training together; 0 is no limit.
    """

    population: int
    generations: int
    seconds: float = 0.0


@dataclass(frozen=True)
class Cell:
    """One method on one seed or fold, on one arm.

    Attributes
    ----------
    config : Config
        Settings of the comparison, with seed, fold and arm of the cell; all paths absolute.
    comm : Communicator
        The ranks that work on the cell.
    run : RunDirectory
        The cell's own run directory, which has its shards already.
    budget : Budget
    facts : DataFacts
        Of the shards, as `rcdp_hpc.data.shards.index.facts_in` returns them.
    """

    config: Config
    comm: Communicator
    run: RunDirectory
    budget: Budget
    facts: DataFacts


@dataclass(frozen=True)
class Outcome:
    """What a method reached in one cell: values that JSON can hold.

    Attributes
    ----------
    validation_accuracy : float
        Of the model that predicted the test rows.
    test : dict
        As `rcdp_hpc.evaluation.confusion.result_of_test` returns it.
    chosen : dict
        What search or validation chose, by name; empty if there was no choice.
    evaluations : int
        Evaluated candidates; 0 if there was no search.
    parameters : int
        Numbers of the final model that were trained or solved.
    timing : dict of str to float
        Seconds by stage. Only these values may differ between repetitions of a cell.
    """

    validation_accuracy: float
    test: dict[str, Any]
    chosen: dict[str, Any] = field(default_factory=dict)
    evaluations: int = 0
    parameters: int = 0
    timing: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Outcome:
        """Return the outcome that `as_json` returned as an object."""
        return cls(**content)


class Method(ABC):
    """A method of a comparison: from the shards of a cell to its scores on the test rows.

    The class is instantiated without arguments. A class of the user's own, ``module:Class`` in ``compare.methods``, is
    derived from this one, `PipelineMethod` or `Floor`.
    """

    def problem(self, config: Config, facts: DataFacts) -> str | None:
        """Return in one sentence why the method cannot take these data; None if it can.

        It is called before any cell runs, without torch and the optional dependencies of the method.

        Parameters
        ----------
        config : Config
            Settings of the comparison.
        facts : DataFacts
            Kind and shape of the data.
        """
        return None

    def problem_with_rows(self, config: Config, facts: DataFacts, rows: int) -> str | None:
        """Return in one sentence why the method cannot be fitted to this number of rows; None if it can.

        It is called when the data are prepared, before any cell runs.

        Parameters
        ----------
        config : Config
            Settings of a cell.
        facts : DataFacts
            Kind and shape of the data.
        rows : int
            Training rows of the cell, after balancing.
        """
        return None

    @abstractmethod
    def run(self, cell: Cell) -> Outcome:
        """Choose by the validation rows, predict the test rows once, and return the scores. Collective.

        The method reads the shards in ``cell.run.shards``. A cell that was killed is run again with the same
        arguments: what is in its run directory may be used again. The same cell gives the same outcome, apart from
        ``timing``.

        Parameters
        ----------
        cell : Cell

        Returns
        -------
        Outcome
            The same on every rank.

        Raises
        ------
        RcdpError
            On every rank, marked as agreed, if the method fails.
        StoppedError
            If a signal asked to stop.
        """

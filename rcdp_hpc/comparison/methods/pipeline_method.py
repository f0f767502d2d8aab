"""Methods that are settings of the package: search, training and evaluation are the stages of a run."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from rcdp_hpc.comparison.methods.base import Budget, Cell, Method, Outcome
from rcdp_hpc.config import Config, DataFacts
from rcdp_hpc.config.apply_defaults import with_settings
from rcdp_hpc.errors import InputError
from rcdp_hpc.pipeline.stages import StageOptions, run_with_options
from rcdp_hpc.runtime.code_consent import code_named_by
from rcdp_hpc.runtime.comm.collective import agree, run_on_root
from rcdp_hpc.runtime.rundir import RunDirectory

# The share of a cell's seconds that the search may use; the training has what is left of them.
SEARCH_SHARE = 0.5
# A training has a second, however long its search took.
LEAST_TRAINING = 1.0
# Entries of the evaluation that are about baselines, not about the method.
_BASELINES = ("ridge", "trees")


class PipelineMethod(Method):
    """A method whose search, training and evaluation are the stages of a run in the cell's run directory.

    A subclass defines `settings`. A cell that was killed is resumed as a run is.

    Attributes
    ----------
    searches : bool
        Whether there is a search. Without one, the method is trained or solved as `settings` says.
    """

    searches: bool = True

    @abstractmethod
    def settings(self, config: Config, facts: DataFacts) -> Config:
        """Return the complete settings of the method; `rcdp_hpc.comparison.methods.settings` helps.

        The section ``[data]`` must be that of the comparison. Candidates and seconds are set afterwards.

        Parameters
        ----------
        config : Config
            Settings of the comparison, with those of the cell.
        facts : DataFacts
            Kind and shape of the data.

        Raises
        ------
        InputError
            If the settings of the comparison contradict those of the method.
        """

    def problem(self, config: Config, facts: DataFacts) -> str | None:
        """Return why the method cannot take the data under these settings; None if it can."""
        try:
            self.check(self.within(config, facts, Budget(config.search.population, config.search.generations)), facts)
        except InputError as error:
            return str(error)
        return None

    def problem_with_rows(self, config: Config, facts: DataFacts, rows: int) -> str | None:
        """Return why a batch of the training has more rows than there are; None if it has not."""
        from rcdp_hpc.training.checks import check_batch

        budget = Budget(config.search.population, config.search.generations)
        try:
            check_batch(self.within(config, facts, budget), rows, ranks=1)
        except InputError as error:
            return str(error)
        return None

    def check(self, config: Config, facts: DataFacts) -> None:
        """Raise an `InputError` if samples of this shape do not fit the complete settings."""
        from rcdp_hpc.training.checks import check_images, check_sequences

        # The steps of series are 0 until they are known.
        if 0 not in facts.sample_shape:
            check_images(config, facts.sample_shape, facts.shortest)
            check_sequences(config, facts.sample_shape, facts.shortest)

    def within(self, config: Config, facts: DataFacts, budget: Budget) -> Config:
        """Return the settings of the method with the candidates of a budget; errors as `settings`."""
        changes: dict[str, Any] = {"search.generations": 0}
        if self.searches:
            changes = {"search.population": budget.population, "search.generations": budget.generations}
            if budget.seconds:
                changes["search.stop_seconds"] = budget.seconds * SEARCH_SHARE
        return with_settings(self.settings(config, facts), changes, "with the candidates of the comparison")

    def run(self, cell: Cell) -> Outcome:
        """Search, train and evaluate in the cell's run directory. Collective."""
        config = agree(cell.comm, lambda: self.within(cell.config, cell.facts, cell.budget))
        results: dict[str, Any] = {}
        if config.search.generations:
            results.update(run_with_options(("search",), config, cell.run.path, cell.comm, StageOptions()))
        seconds = run_on_root(cell.comm, lambda: _seconds_left(cell))
        config = with_training_seconds(config, seconds)
        results.update(run_with_options(("train", "evaluate"), config, cell.run.path, cell.comm, StageOptions()))
        return run_on_root(cell.comm, lambda: outcome_of(cell.run, config, results))


def _seconds_left(cell: Cell) -> float:
    """Return the seconds that the search has left of the budget; 0 if there is no limit."""
    if not cell.budget.seconds:
        return 0.0
    return max(cell.budget.seconds - float(cell.run.state("search").get("seconds", 0.0)), LEAST_TRAINING)


def with_training_seconds(config: Config, seconds: float) -> Config:
    """Return the settings in which the training ends within this many seconds; 0 is no limit.

    A solved readout has no epochs after which it could end, and takes the time that it needs.
    """
    if not seconds or not config.readout.trained:
        return config
    return with_settings(config, {"training.stop_seconds": seconds}, "with the seconds of the comparison")


def outcome_of(run: RunDirectory, config: Config, results: Mapping[str, Any]) -> Outcome:
    """Return the outcome of the stages of a run; on rank 0 only.

    Parameters
    ----------
    run : RunDirectory
    config : Config
        Settings that the stages ran with.
    results : mapping
        The results of the stages, by name.
    """
    found, trained = results.get("search", {}), results["train"]
    chosen = dict(found.get("values", {}))
    if "penalty" in trained:
        chosen["ridge_penalty"] = trained["penalty"]
    return Outcome(
        validation_accuracy=float(trained["validation_accuracy"]),
        test={name: value for name, value in results["evaluate"].items() if name not in _BASELINES},
        chosen=chosen,
        evaluations=int(found.get("evaluations", 0)),
        parameters=parameters_of(run, config),
        timing={
            stage: float(run.state(stage)["seconds"]) for stage in ("search", "train", "evaluate") if run.state(stage)
        },
    )


def parameters_of(run: RunDirectory, config: Config) -> int:
    """Return how many numbers of the run's model were trained or solved."""
    from rcdp_hpc.model.trained_model import TrainedModel

    model = TrainedModel.load(run.model, own_code=code_named_by(config).values())
    return sum(parameter.numel() for parameter in model.network.parameters())

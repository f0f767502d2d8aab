"""Types of the results of the stages. They are dicts, as in the state files."""

# No postponed annotations: TypedDict reads NotRequired from them.
from typing import Any, NotRequired, TypedDict


class PrepareResult(TypedDict):
    """Number of rows of each split.

    Attributes
    ----------
    train, validation, test, reserve : int
        The last only if there is a reserve.
    """

    train: int
    validation: int
    test: int
    reserve: NotRequired[int]


class SearchResult(TypedDict, total=False):
    """The winner of the search; empty if there was no search.

    Attributes
    ----------
    values : dict
        Searched values by name.
    fitness, error, accuracy : float
        Of the winner.
    generation, candidate : int
        Where its values occurred first.
    evaluations, generations : int
        Of the whole search.
    seconds : float
        Time of all evaluations, summed over ranks.
    replaced : list of str
        Damaged shards whose rows were replaced.
    """

    values: dict[str, Any]
    fitness: float
    error: float
    accuracy: float
    generation: int
    candidate: int
    evaluations: int
    generations: int
    seconds: float
    replaced: list[str]


class TrainResult(TypedDict):
    """How the training ended.

    Attributes
    ----------
    epochs : int
        Epochs of training; 0 for a readout that is solved.
    ended : str
        Why it ended.
    threads : int
        Threads of each rank.
    validation_accuracy : float
        Of the best epoch or of the solution.
    best_epoch : int
        From 1; not of a solved readout.
    validation_loss : float
        Of the best epoch.
    selected_by : str
        What chose the penalty of a solved readout: "left-out" or "validation".
    penalty : float
        Penalty of a solved readout.
    """

    epochs: int
    ended: str
    threads: int
    validation_accuracy: NotRequired[float]
    best_epoch: NotRequired[int]
    validation_loss: NotRequired[float]
    selected_by: NotRequired[str]
    penalty: NotRequired[float]


class EvaluateResult(TypedDict):
    """The scores of the test.

    Attributes
    ----------
    samples, correct : int
        Test samples, and those whose class is predicted correctly.
    accuracy, macro_f1 : float
        Overall scores.
    precision, recall, f1 : list of float or None
        Scores of each class; None if undefined.
    absent : list of str
        Classes without test samples.
    worst_confusions : list of dict
        The most frequent confusions of two classes.
    confusion : dict
        The confusion matrix (docs/formats.md).
    ridge, trees : dict
        Scores of baselines, if there are any.
    """

    samples: int
    correct: int
    accuracy: float
    macro_f1: float
    precision: list[float | None]
    recall: list[float | None]
    f1: list[float | None]
    absent: list[str]
    worst_confusions: list[dict[str, Any]]
    confusion: Any
    ridge: NotRequired[dict[str, Any]]
    trees: NotRequired[dict[str, Any]]


class RunResult(TypedDict):
    """The results of all stages.

    Attributes
    ----------
    prepare : PrepareResult
    search : SearchResult
    train : TrainResult
    evaluate : EvaluateResult
    """

    prepare: PrepareResult
    search: SearchResult
    train: TrainResult
    evaluate: EvaluateResult

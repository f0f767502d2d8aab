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
    first_error : float or None
        E_0 of the density term of eq. 5; None without the term.
    meaning : str
        What the fitness is, as a formula.
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
    first_error: float | None
    meaning: str
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
    replaced : list of str
        Damaged shards whose rows were replaced.
    best_epoch : int
        From 1. This and the following entries are those of a trained readout.
    validation_loss : float
        Of the best epoch.
    criterion : str
        What chose the best epoch, unless it is the validation loss.
    validation_fitness : float
        This criterion in the best epoch, negative if lower is better.
    engine : str
        What sums the gradients of the ranks.
    partitions, rank_speeds : list
        Number of training rows of each rank, and the ranks' relative speeds; empty if all count the same.
    compute_seconds, wait_seconds, communicate_seconds : list of float
        Seconds of each rank.
    weights_left : float
        Share of the entries of the weight matrices that are not zero, if the training removes some.
    selected_by : str
        What chose the penalty: "left-out" or "validation". This and the following entries are those of a solved
        readout.
    penalty : float
        Penalty of the squared weights.
    penalties : list of float
        In place of `penalty`, those of the machines of several frequency bands.
    ranks : int
        Number of ranks.
    """

    epochs: int
    ended: str
    threads: int
    validation_accuracy: float
    replaced: list[str]
    best_epoch: NotRequired[int]
    validation_loss: NotRequired[float]
    criterion: NotRequired[str]
    validation_fitness: NotRequired[float]
    engine: NotRequired[str]
    partitions: NotRequired[list[int]]
    rank_speeds: NotRequired[list[float]]
    compute_seconds: NotRequired[list[float]]
    wait_seconds: NotRequired[list[float]]
    communicate_seconds: NotRequired[list[float]]
    weights_left: NotRequired[float]
    selected_by: NotRequired[str]
    penalty: NotRequired[float]
    penalties: NotRequired[list[float]]
    ranks: NotRequired[int]


class EvaluateResult(TypedDict):
    """The scores of the test.

    Attributes
    ----------
    samples, correct : int
        Test samples, and those whose class is predicted correctly.
    accuracy, balanced_accuracy, macro_f1, weighted_f1, g_mean, log_loss, brier, ece : float
        Criteria (docs/metrics.md).
    mcc, kappa, macro_pr_auc, macro_roc_auc : float or None
        Criteria that need samples of two classes; None without them.
    precision, recall, f1, pr_auc, roc_auc : list of float or None
        Scores of each class; None if undefined.
    intervals : dict
        Limits of the 95 % interval of each of these.
    undefined, without_interval : dict of str to str
        Why a criterion has no value, or no interval.
    uncalibrated : dict
        Criteria of the probabilities before calibration, if the model is calibrated.
    absent : list of str
        Classes without test samples.
    worst_confusions : list of dict
        The most frequent confusions of two classes.
    confusion : list or dict
        The confusion matrix (docs/formats.md).
    ridge, trees : dict
        Scores of baselines, if there are any.
    """

    samples: int
    correct: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    weighted_f1: float
    g_mean: float
    mcc: float | None
    kappa: float | None
    macro_pr_auc: float | None
    macro_roc_auc: float | None
    log_loss: float
    brier: float
    ece: float
    precision: list[float | None]
    recall: list[float | None]
    f1: list[float | None]
    pr_auc: list[float | None]
    roc_auc: list[float | None]
    intervals: dict[str, Any]
    undefined: dict[str, str]
    without_interval: dict[str, str]
    resamples: dict[str, int]
    uncalibrated: NotRequired[dict[str, float]]
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


class CrossValidationResult(TypedDict):
    """The results of all folds, as in ``RUN/report/summary.json``.

    Attributes
    ----------
    folds : int
        Number of folds.
    results : list of dict
        Of each fold: ``fold``, ``samples``, ``correct``, the criteria, ``undefined``, ``absent``, ``seconds``, and
        ``trees`` if boosted trees were fitted.
    mean, deviation : dict
        Mean and sample standard deviation of each criterion over the folds in which it is defined.
    undefined_folds : dict
        The other folds.
    classes : list of str
        Names of the classes.
    absent : list of str
        Classes without a sample.
    worst_confusions : list of dict
        The most frequent confusions of two classes.
    confusion : list or dict
        The confusion matrix of all folds together (docs/formats.md).
    seed : int
        ``run.seed``.
    versions : dict
        Versions of the libraries.
    trees : dict
        Mean scores of boosted trees, if every fold has them.
    """

    folds: int
    results: list[dict[str, Any]]
    mean: dict[str, float | None]
    deviation: dict[str, float | None]
    undefined_folds: dict[str, list[int]]
    classes: list[str]
    absent: list[str]
    worst_confusions: list[dict[str, Any]]
    confusion: Any
    seed: int
    versions: dict[str, str]
    trees: NotRequired[dict[str, float]]

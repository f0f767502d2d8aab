"""Criteria by which a classifier is evaluated and chosen: one line for each."""

from __future__ import annotations

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable
from rcdp_hpc.config.suggest import did_you_mean

_PACKAGE = "rcdp_hpc.model.criteria"
# "recall:CLASS" is the recall of the class of this name.
RECALL = "recall:"

CRITERIA = ChoiceTable(
    "criteria",
    (
        Choice("accuracy", "share of samples with the right class", f"{_PACKAGE}.confusion:Accuracy"),
        Choice(
            "balanced_accuracy",
            "mean of the recalls of the classes: each class counts the same",
            f"{_PACKAGE}.confusion:BalancedAccuracy",
        ),
        Choice("macro_f1", "mean of the F1 scores of the classes", f"{_PACKAGE}.confusion:MacroF1"),
        Choice(
            "weighted_f1",
            "mean of the F1 scores of the classes, weighted by their samples",
            f"{_PACKAGE}.confusion:WeightedF1",
        ),
        Choice(
            "g_mean",
            "geometric mean of the recalls: 0 if one class is never recognised",
            f"{_PACKAGE}.confusion:GeometricMean",
        ),
        Choice(
            "mcc", "Matthews' correlation of true and predicted classes", f"{_PACKAGE}.confusion:MatthewsCorrelation"
        ),
        Choice("kappa", "Cohen's kappa: agreement beyond chance", f"{_PACKAGE}.confusion:CohenKappa"),
        Choice(
            "macro_pr_auc",
            "mean over the classes of the average precision of each against the rest",
            f"{_PACKAGE}.ranking:MacroPRAUC",
        ),
        Choice(
            "macro_roc_auc",
            "mean over the classes of the area under the ROC curve of each against the rest",
            f"{_PACKAGE}.ranking:MacroROCAUC",
        ),
        Choice("log_loss", "mean negative log probability of the true class", f"{_PACKAGE}.probabilities:LogLoss"),
        Choice(
            "brier",
            "Brier score: mean squared error of the probabilities",
            f"{_PACKAGE}.probabilities:BrierScore",
        ),
        Choice(
            "ece",
            "expected calibration error of the largest probability, in 15 bins",
            f"{_PACKAGE}.probabilities:CalibrationError",
        ),
    ),
)

# How tables and sentences call them.
TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "g_mean": "G-mean",
    "mcc": "Matthews' correlation",
    "kappa": "Cohen's kappa",
    "macro_pr_auc": "macro PR-AUC",
    "macro_roc_auc": "macro ROC-AUC",
    "log_loss": "log loss",
    "brier": "Brier score",
    "ece": "calibration error",
}


def criterion_accepted(name: str, others: tuple[str, ...] = ()) -> str:
    """Return the name of a criterion, checked.

    Parameters
    ----------
    name : str
        A name of `CRITERIA`, or ``recall:CLASS``. Whether the class exists is known only with the data.
    others : tuple of str
        Values that the key accepts as well, such as "auto".

    Raises
    ------
    ValueError
        If it is neither.
    """
    names = [*others, *CRITERIA.names]
    if name in names or (name.startswith(RECALL) and name != RECALL):
        return name
    raise ValueError(f"expected one of {', '.join(names)}, or {RECALL}CLASS{did_you_mean(name, names)}")

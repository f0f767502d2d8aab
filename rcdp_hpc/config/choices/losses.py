"""Losses: one line for each."""

from __future__ import annotations

from dataclasses import dataclass

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable


@dataclass(frozen=True)
class LossChoice(Choice):
    """A loss, with the fact that a rule checks before its class is imported.

    Attributes
    ----------
    reads_class_counts : bool
        The loss depends on the training rows of each class.
    """

    reads_class_counts: bool = False


_PACKAGE = "rcdp_hpc.networks.losses"

_LOSSES = (
    LossChoice("cross_entropy", "cross-entropy", f"{_PACKAGE}.cross_entropy:CrossEntropy"),
    LossChoice(
        "focal",
        "focal loss: well-predicted rows count less (loss.focal_gamma)",
        f"{_PACKAGE}.focal:Focal",
        keys=("loss.focal_gamma",),
    ),
    LossChoice("eq12", "root mean square error (eq. 12, paper)", f"{_PACKAGE}.rms:RootSquaredError"),
    LossChoice(
        "logit_adjusted",
        "cross-entropy of the scores plus loss.logit_tau times the logarithms of the class shares",
        f"{_PACKAGE}.logit_adjusted:LogitAdjusted",
        keys=("loss.logit_tau",),
        reads_class_counts=True,
    ),
    LossChoice(
        "balanced_softmax",
        "cross-entropy of a softmax that counts each class by its rows: logit_adjusted with the factor 1",
        f"{_PACKAGE}.logit_adjusted:BalancedSoftmax",
        reads_class_counts=True,
    ),
    LossChoice(
        "ldam",
        "cross-entropy with a margin that is larger for small classes (loss.ldam_margin)",
        f"{_PACKAGE}.ldam:LDAM",
        keys=("loss.ldam_margin",),
        reads_class_counts=True,
    ),
)

LOSSES = ChoiceTable("loss.kind", _LOSSES, user_class="a function or class of your own (docs/extending.md)")


def loss_choice(name: str) -> LossChoice:
    """Return the facts about a value of ``loss.kind``; of a loss of the user's own, the defaults."""
    return next((choice for choice in _LOSSES if choice.name == name), LossChoice(name, LOSSES.user_class))

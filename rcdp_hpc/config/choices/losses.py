"""Losses: one line for each."""

from __future__ import annotations

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable

_PACKAGE = "rcdp_hpc.networks.losses"

LOSSES = ChoiceTable(
    "loss.kind",
    (
        Choice("cross_entropy", "cross-entropy", f"{_PACKAGE}.cross_entropy:CrossEntropy"),
        Choice(
            "focal",
            "focal loss: well-predicted rows count less (loss.focal_gamma)",
            f"{_PACKAGE}.focal:Focal",
            keys=("loss.focal_gamma",),
        ),
        Choice("eq12", "root mean square error (eq. 12, paper)", f"{_PACKAGE}.rms:RootSquaredError"),
    ),
    user_class="a function or class of your own (docs/extending.md)",
)

"""Losses: one line for each."""

from __future__ import annotations

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable

LOSSES = ChoiceTable(
    "loss.kind",
    (
        Choice("cross_entropy", "cross-entropy"),
        Choice("focal", "focal loss: well-predicted rows count less (loss.focal_gamma)"),
        Choice("eq12", "root mean square error (eq. 12, paper)"),
    ),
)

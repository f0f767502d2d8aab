"""Ways with uneven classes that ``rcdp balance-check`` compares: one line for each.

`CHECK_METHODS` is in the order of the cost of a training. Each name is one file of
`rcdp_hpc.balance_check.methods`.
"""

from __future__ import annotations

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable

_PACKAGE = "rcdp_hpc.balance_check.methods"

CHECK_METHODS = ChoiceTable(
    "balance-check",
    (
        Choice("none", "the classes as they are", f"{_PACKAGE}.none:Unchanged"),
        Choice(
            "logit_adjustment",
            "scores minus tau times the logarithm of the class shares, tau from left-out scores",
            f"{_PACKAGE}.logit_adjustment:LogitAdjustment",
        ),
        Choice(
            "class_weights",
            "rows weighted so that all classes have the same total weight",
            f"{_PACKAGE}.class_weights:ClassWeights",
        ),
        Choice(
            "random_under",
            "random rows of the larger classes left out",
            f"{_PACKAGE}.random_under:RandomUnder",
        ),
        Choice(
            "random_over",
            "random rows of the smaller classes repeated",
            f"{_PACKAGE}.random_over:RandomOver",
        ),
        Choice(
            "smote",
            "synthetic rows between a row and its neighbours of the same class",
            f"{_PACKAGE}.smote:Smote",
        ),
    ),
)

"""Schedules of the learning rate: one line for each."""

from __future__ import annotations

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable

_PACKAGE = "rcdp_hpc.training.optim.schedules"
_REDUCTION_KEYS = ("schedule.interval", "schedule.factor")

SCHEDULES = ChoiceTable(
    "schedule.kind",
    (
        Choice("constant", "the same throughout", f"{_PACKAGE}.constant:Constant"),
        Choice("step", "falls every schedule.interval epochs", f"{_PACKAGE}.step:Step", keys=_REDUCTION_KEYS),
        Choice("cosine", "falls to 0 on half a cosine", f"{_PACKAGE}.cosine:Cosine"),
        Choice("one_cycle", "rises and falls once", f"{_PACKAGE}.one_cycle:OneCycle"),
        Choice(
            "plateau",
            "falls after schedule.interval epochs without a better validation loss",
            f"{_PACKAGE}.plateau:Plateau",
            keys=_REDUCTION_KEYS,
        ),
    ),
    user_class="a schedule of your own (docs/extending.md)",
)

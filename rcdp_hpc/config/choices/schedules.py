"""Schedules of the learning rate: one line for each."""

from __future__ import annotations

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable

SCHEDULES = ChoiceTable(
    "schedule.kind",
    (
        Choice("constant", "the same throughout"),
        Choice("step", "falls every schedule_epochs epochs"),
        Choice("cosine", "falls to 0 on half a cosine"),
        Choice("one_cycle", "rises and falls once"),
        Choice("plateau", "falls after schedule_epochs epochs without a better validation loss"),
    ),
)

"""Schedules of the learning rate, one file each; `rcdp_hpc.config.choices.schedules` lists them."""

from __future__ import annotations

from rcdp_hpc.training.optim.schedules.base import Schedule
from rcdp_hpc.training.optim.schedules.load import CheckedSchedule, check_schedule

__all__ = ["CheckedSchedule", "Schedule", "check_schedule"]

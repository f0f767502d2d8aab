"""What every section of the configuration is."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

RESUMABLE: dict[str, Any] = {"may_change": True}
# The value is a file or folder: `~` is expanded, and a relative path is made absolute when the command starts.
PATH: dict[str, Any] = {"path": True}


class Section(BaseModel):
    """A section of the configuration: unknown keys are refused, values are checked when set."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)


def positive_entries(values: list[float]) -> list[float]:
    """Return a list of numbers above 0."""
    if min(values, default=1.0) <= 0:
        raise ValueError("every entry must be above 0")
    return values


def one_or_several(value: Any) -> Any:
    """Return a list with a text as its only entry, none for an empty text; other values unchanged."""
    return ([value] if value else []) if isinstance(value, str) else value

"""No balancing: the baseline of the comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rcdp_hpc.balance_check.methods.base import Method
from rcdp_hpc.config import Config


class Unchanged(Method):
    """The rows as they are."""

    def settings(self, config: Config, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys that leave the rows as they are."""
        return {"data.balance": "none", "loss.class_weights": "none"}

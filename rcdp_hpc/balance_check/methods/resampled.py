"""The base of methods that change the rows of the training part as ``data.balance`` does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rcdp_hpc.balance_check.methods.base import Method
from rcdp_hpc.config import Config


class Resampled(Method):
    """Rows of a balancing method of the package."""

    def settings(self, config: Config, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys of the balancing method."""
        return {"data.balance": self.balance, "loss.class_weights": "none"}

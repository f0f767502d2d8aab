"""SMOTE: synthetic rows of the smaller classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rcdp_hpc.balance_check.methods.resampled import Resampled
from rcdp_hpc.config import Config


class Smote(Resampled):
    """``data.balance = "smote"`` with ``data.smote_neighbours`` of the configuration."""

    balance = "smote"

    def settings(self, config: Config, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys of SMOTE with the same neighbours."""
        keys = super().settings(config, chosen)
        return {**keys, "data.smote_neighbours": config.data.smote_neighbours}

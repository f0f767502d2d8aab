"""Class weights: all rows, weighted so that the classes have the same total weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.balance_check.methods.base import Method
from rcdp_hpc.config import Config


class ClassWeights(Method):
    """The weights of ``loss.class_weights = "balanced"``: a row of a class with n of N rows weighs N / (K n)."""

    weighs = True

    def class_weights(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the weights; that of a class without rows is 0."""
        present = counts > 0
        weights = np.zeros(len(counts))
        weights[present] = counts.sum() / (present.sum() * counts[present])
        return weights

    def settings(self, config: Config, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys of weighted rows without balancing."""
        return {"data.balance": "none", "loss.class_weights": "balanced"}

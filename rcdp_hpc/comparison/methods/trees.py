"""A floor for tables: gradient boosted trees.

J. H. Friedman, "Greedy function approximation: a gradient boosting machine", Annals of Statistics 29 (2001) 1189-1232;
G. Ke et al., "LightGBM: a highly efficient gradient boosting decision tree", NeurIPS 30 (2017): histograms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.comparison.methods.floor import Features, FittedModel, Floor, Samples
from rcdp_hpc.config import Config, DataFacts
from rcdp_hpc.evaluation.trees import boosted_trees

MOST_LEAVES = (31, 8)


class BoostedTrees(Floor):
    """scikit-learn's histogram gradient boosting with its default settings; the validation rows choose the leaves."""

    copies = 6  # scikit-learn converts to float64; measured: 5.7

    def problem(self, config: Config, facts: DataFacts) -> str | None:
        """Return why the method cannot take the data; None if it can."""
        if facts.kind != "table":
            return f"boosted trees are the floor of tables, and these data are of the kind '{facts.kind}': leave it out"
        return super().problem(config, facts)

    def candidates(self) -> Sequence[Mapping[str, Any]]:
        """Return the largest numbers of leaves of a tree; the default first."""
        return [{"max_leaf_nodes": leaves} for leaves in MOST_LEAVES]

    def feature_map(self, train: Samples, facts: DataFacts, seed: int) -> Callable[[Samples], Features]:
        """Return the function from samples to their values: trees do not depend on scales."""
        return lambda samples: samples.x.reshape(len(samples.x), -1)

    def fit(self, features: Features, y: NDArray[np.int64], seed: int, **settings: Any) -> FittedModel:
        """Return the fitted trees."""
        fitted: FittedModel = boosted_trees(seed, **settings).fit(features, y)
        return fitted

    def parameters(self, model: Any) -> int:
        """Return the number of leaves of all trees."""
        return sum(int(tree.get_n_leaf_nodes()) for stage in model._predictors for tree in stage)

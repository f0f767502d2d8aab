"""An estimate of the work of a search, by which a CPU or a GPU is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rcdp_hpc.config import Config, largest_candidate
from rcdp_hpc.config.choices import readout_choice
from rcdp_hpc.reservoir.kept_steps import prepared_features
from rcdp_hpc.reservoir.reductions import feature_shape
from rcdp_hpc.search.effective import evaluated_config, evaluated_shape
from rcdp_hpc.training.work import DOUBLE, PASSES, Work, readout_products, solution_products


def search_work(config: Config, shape: Sequence[int], rows: int, ranks: int) -> Work | None:
    """Return the work of a rank in a search; None if candidates are functions of the user's own.

    Parameters are those of `rcdp_hpc.training.work.training_work`. Every candidate counts as the largest one.
    """
    search = config.search
    if search.evaluation == "function":
        return None
    largest = evaluated_config(largest_candidate(config))
    steps, features = evaluated_shape(config, shape)
    reservoir = largest.reservoir
    fitted, judged = min(search.train_rows, rows), min(search.validation_rows, rows)
    if reservoir.kind == "none":
        width, states = steps * prepared_features(reservoir, features), 0.0
    else:
        kept = feature_shape(reservoir, steps)
        inputs = 2 * reservoir.memory_units if reservoir.kind == "diagonal" else reservoir.nodes + features
        width, states = kept.features, float(kept.parts * steps * reservoir.nodes * inputs)
    products = (fitted + judged) * states
    if search.evaluation == "train" and readout_choice(largest.readout.kind).trained:
        products += PASSES * search.epochs * fitted * readout_products(largest, width, (steps, features))
    else:
        products += DOUBLE * solution_products(largest, width, fitted)
    count = search.population * max(1, search.generations) / ranks
    return Work(products * count, candidates=math.ceil(count))

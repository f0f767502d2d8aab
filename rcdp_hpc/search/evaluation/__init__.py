"""How a candidate is evaluated: fitness, rows, folds, groups of ranks."""

"""Evaluation of candidates: fitness, rows, folds, groups of ranks."""

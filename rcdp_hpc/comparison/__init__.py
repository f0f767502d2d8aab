"""Comparisons of methods on one data set: the same shards, candidate evaluations and seeds for all."""

"""Weights that become zero during a training."""

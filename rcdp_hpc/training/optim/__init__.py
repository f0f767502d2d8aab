"""Optimisers, schedules, losses and gradients."""

"""Readouts that are solved instead of trained, and short trainings."""

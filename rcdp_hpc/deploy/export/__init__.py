"""Trained models in files that run without this package."""

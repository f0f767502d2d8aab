"""Predictions for new samples."""

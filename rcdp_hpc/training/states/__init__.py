"""Reservoir states during the training: stored, computed again in every step, or of shifted images."""

"""Reservoir states during training: where they are kept, recomputed or shifted."""

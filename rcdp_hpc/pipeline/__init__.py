"""The stages of a run in order: lock, resolved configuration, state files, resume; cross-validation."""

"""The stages in order: lock, resolved configuration, state files, resume, cross-validation."""

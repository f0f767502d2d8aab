"""The trained model, its file and its metrics."""

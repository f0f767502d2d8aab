"""The paper's experiments, on data and settings of this package."""

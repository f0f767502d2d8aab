"""Ridge readouts, short trainings of the search, and what frozen extractors learn before the training."""

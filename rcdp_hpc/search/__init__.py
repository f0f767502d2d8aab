"""The search for good values of the reservoir and its readout: space, fitness, optimisers, evaluator over ranks."""

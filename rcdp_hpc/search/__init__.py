"""The search for the reservoir and its readout: space, fitness, optimisers, and the evaluator over ranks."""

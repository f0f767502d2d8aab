"""Records of a training: epoch cost, GPU utilisation, gradient norms, divergence."""

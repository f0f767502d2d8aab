"""What a training records about itself: epoch cost, GPU use, gradient norms, divergence."""

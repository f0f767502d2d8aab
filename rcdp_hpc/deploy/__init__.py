"""What leaves the cluster: predictions for new samples."""

"""What a trained model is worth: metrics, summary, pictures."""

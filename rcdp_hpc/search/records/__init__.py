"""What a search writes: journal, checkpoint, history, winner."""

"""Files of a search: history, checkpoint, journal, winner."""

"""What every stage stands on: launch detection, communicators, files, signals, progress."""

"""Services for all stages: communicators, files, locks, records, signals, logs, progress, threads."""

"""Faults that are injected on purpose; docs/reliability.md has their kinds and what became of them."""

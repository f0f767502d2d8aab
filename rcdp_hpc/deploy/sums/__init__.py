"""Models with exact sums: merged with others, updated by new rows, and without units that are forgotten."""

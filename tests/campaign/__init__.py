"""Faults on purpose: damage, hostile inputs, kills, stops, races, small disks, other file systems. See docs/reliability.md."""

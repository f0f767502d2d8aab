"""Data-parallel training: strategies (what the ranks sum) and engines (what library sums it).

A strategy holds an engine. Training knows strategies only.
"""

"""Engines of data-parallel training: one process, Horovod, and strategies on top of it."""

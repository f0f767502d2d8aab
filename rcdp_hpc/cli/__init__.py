"""The command line ``rcdp``."""

from rcdp_hpc.cli.main import main

__all__ = ["main"]

"""``python -m rcdp_hpc``: the same as ``rcdp``."""

import sys

from rcdp_hpc.cli import main

if __name__ == "__main__":
    sys.exit(main())

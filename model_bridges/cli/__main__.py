"""`python -m model_bridges.cli`."""

import sys

from model_bridges.cli import main

if __name__ == "__main__":
    sys.exit(main())

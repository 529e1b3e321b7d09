"""`python -m gmm_speciation.cli`."""

import sys

from gmm_speciation.cli import main

if __name__ == "__main__":
    sys.exit(main())

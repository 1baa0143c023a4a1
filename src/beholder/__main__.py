"""`python -m beholder` is the command line."""

import sys

from beholder.cli import main

if __name__ == "__main__":
    sys.exit(main())

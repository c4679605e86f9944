"""`python -m ftrun` is `ftrun`."""

import sys

from ftrun.cli import main

if __name__ == "__main__":
    sys.exit(main())

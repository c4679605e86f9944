"""`python -m ftrun` is `ftrun`."""

import sys


def main() -> int:
    """Run the command line, which Ctrl-C ends in one line also while it is imported."""
    try:
        from ftrun.cli import main as run

        return run()
    except KeyboardInterrupt:
        print("ftrun: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())

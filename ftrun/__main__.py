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
    except Exception:
        import traceback

        from ftrun.runs.streams import outputs

        with outputs():  # where a bug's message has names of files in it, as everywhere
            traceback.print_exc()
        return 1


if __name__ == "__main__":
    sys.exit(main())

"""`python -m ftrun` is `ftrun`."""

import signal
import sys


def main() -> int:
    """Run the command line; a Ctrl-C that comes while the process ends changes nothing more."""
    code = ended()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # else libraries that end print a traceback
    exec("")  # Python remembers that Ctrl-C ended the last source executed, and would end with that signal
    return code


def ended() -> int:
    """The exit code of the command line, which Ctrl-C ends in one line also while it is imported."""
    try:
        from ftrun.cli import main as run

        return run()
    except KeyboardInterrupt as error:  # an Interrupted says which signal it was
        print(f"ftrun: {str(error) or 'interrupted'}", file=sys.stderr)
        return getattr(error, "exit_code", 130)
    except Exception:
        import traceback

        from ftrun.runs.streams import outputs

        with outputs():  # where a bug's message has names of files in it, as everywhere
            traceback.print_exc()
        return 1


if __name__ == "__main__":
    sys.exit(main())

"""Upload a finished run's model to the Hugging Face Hub, private unless --public is given."""

from __future__ import annotations

from pathlib import Path

from ftrun.commands._parser import Parser


def main(arguments: list[str]) -> int:
    """Run the command with the arguments after its name; returns the exit code."""
    parser = Parser(prog="ftrun push", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("run", metavar="RUN", type=Path, help="finished run, or what ftrun merge, compose or export has made")
    add("name", metavar="NAME", help="repository on the Hub, OWNER/NAME; made where there is none")
    add("--public", action="store_true", help="a new repository can be read by everyone")
    add("--dry", action="store_true", help="say what would be uploaded, and upload nothing")
    options = parser.parse_args(arguments)

    from ftrun.experiments.exporting.push import push

    push(options.run, options.name, options.public, options.dry)
    return 0

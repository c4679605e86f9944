"""Print the composed configuration of an experiment as YAML: ftrun config key=value …"""

from __future__ import annotations

from ftrun.commands._parser import Parser
from ftrun.runs.written import to_yaml


def main(arguments: list[str]) -> int | None:
    """Compose and check the settings exactly as a run would, without starting it."""
    parser = Parser(prog="ftrun config", description=__doc__)
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="directory with your own options")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    given = parser.parse_intermixed_args(arguments)

    from ftrun.experiments.overrides import settings_of
    from ftrun.settings.read import checked

    raw = settings_of(given.overrides, given.config_dir)
    checked(raw)
    print(to_yaml(raw), end="")
    return 0

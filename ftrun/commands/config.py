"""Print the composed configuration of an experiment as YAML: ftrun config key=value …"""

from __future__ import annotations

from ftrun.commands._parser import Parser
from ftrun.runs.written import to_yaml


def main(arguments: list[str]) -> int | None:
    """Compose and check the settings exactly as a run would, without starting it."""
    parser = Parser(prog="ftrun config", description=__doc__)
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="directory with your own options")
    parser.add_argument(
        "--check",
        action="store_true",
        help="read what the settings name as well, rows, network and runs, and print no YAML",
    )
    parser.add_argument(
        "--schema", action="store_true", help="print a JSON schema of all settings, for editors of YAML"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    given = parser.parse_intermixed_args(arguments)
    if given.schema:
        import json

        from ftrun.settings.json_schema import schema

        print(json.dumps(schema(given.config_dir), indent=1, ensure_ascii=False))
        return 0

    from ftrun.experiments.overrides import settings_of
    from ftrun.settings.read import checked

    raw = settings_of(given.overrides, given.config_dir)
    if given.check:
        from ftrun.experiments.making import examined

        print(
            f"the settings are right, and what they name is there and can be read: {', '.join(examined(raw))}"
        )
        return 0
    checked(raw)
    print(to_yaml(raw), end="")
    return 0

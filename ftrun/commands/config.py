"""Print the composed configuration of an experiment as YAML: ftrun config key=value …"""

from __future__ import annotations

from ftrun.commands._parser import Parser


def main(arguments: list[str]) -> int | None:
    """Compose and check the settings exactly as a run would, without starting it."""
    parser = Parser(prog="ftrun config", description=__doc__)
    parser.add_argument("--config-dir", "-cd", metavar="DIR", help="directory with your own options")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    given = parser.parse_intermixed_args(arguments)

    from omegaconf import OmegaConf

    from ftrun.experiments.overrides import compose
    from ftrun.settings.read import read

    raw = compose(given.overrides, given.config_dir)
    read(raw)
    print(OmegaConf.to_yaml(OmegaConf.create(raw)), end="")
    return 0

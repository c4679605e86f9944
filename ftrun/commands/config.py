"""Print the composed configuration of an experiment as YAML: ftrun config key=value …"""

from __future__ import annotations

import argparse


def main(arguments: list[str]) -> int | None:
    """Composes and checks exactly as a run would, and starts nothing."""
    parser = argparse.ArgumentParser(prog="ftrun config", description=__doc__)
    parser.add_argument("--config-dir", "-cd", help="a directory with options of your own")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    given = parser.parse_intermixed_args(arguments)

    from omegaconf import OmegaConf

    from ftrun.experiments.launch import compose
    from ftrun.settings.schema import read

    raw = compose(given.overrides, given.config_dir)
    read(raw)
    print(OmegaConf.to_yaml(OmegaConf.create(raw)), end="")
    return 0

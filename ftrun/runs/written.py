"""Settings as YAML text."""

from __future__ import annotations

import re
from typing import Any

BREAKS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]")  # YAML ends a line at some of them


def to_yaml(config: dict[str, Any]) -> str:
    """The text that every reader of YAML 1.1 and 1.2 reads as these settings, strings as strings.

    In the form of OmegaConf.to_yaml, which takes `${` for an interpolation and loses line separators.
    """
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def string(dumper: Any, text: str) -> Any:
        style = '"' if BREAKS.search(text) else "'" if text in {*"yYnN"} or _is_number(text) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, string)
    Dumper.add_representer(tuple, Dumper.represent_list)
    text: str = yaml.dump(
        config, Dumper=Dumper, allow_unicode=True, sort_keys=False, default_flow_style=False
    )
    return text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

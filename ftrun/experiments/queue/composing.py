"""The settings of a sweep's runs: options are composed once, and a run's own values put into a copy.

Hydra composes every run from its files, and each twice: all of them, to refuse mistakes before the first,
and each when it starts. A run that chooses the same options as one before it differs in values alone.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

MOST = 64  # choices of options that are kept, of half a megabyte each


class Composer:
    """Hydra's loader, which composes each choice of options once in a sweep."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.bases: dict[tuple[str, ...], DictConfig] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The configuration of one run; it raises what Hydra's loader raises."""
        parsed = OverridesParser.create(config_loader=self.loader).parse_overrides(sweep_overrides)
        if any(not plain(override) and not self.is_option(override) for override in parsed):
            return self.loader.load_sweep_config(master_config, sweep_overrides)
        options = [override for override in parsed if self.is_option(override)]
        config = copy.deepcopy(self.base(master_config, options))
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        ConfigLoaderImpl._apply_overrides_to_config(
            [override for override in parsed if not self.is_option(override)], config
        )
        own = config.hydra
        own.overrides.task = sweep_overrides
        how = own.job.config.override_dirname
        own.job.override_dirname = get_overrides_dirname(
            parsed, kv_sep=how.kv_sep, item_sep=how.item_sep, exclude_keys=how.exclude_keys
        )
        return config

    def is_option(self, override: Override) -> bool:
        """Whether it chooses an option, a file of a group; all else is a value."""
        found: bool = self.loader.repository.group_exists(override.key_or_group)
        return found

    def base(self, master: DictConfig, options: list[Override]) -> DictConfig:
        """What these options compose to, without any value of a run."""
        key = tuple(str(override.input_line) for override in options)
        if key not in self.bases:
            if len(self.bases) >= MOST:
                self.bases.pop(next(iter(self.bases)))
            self.bases[key] = self.loader.load_sweep_config(master, list(key))
        return self.bases[key]


def plain(override: Override) -> bool:
    """Whether it sets a run's value, and neither one of Hydra's own nor in a way that Hydra must look at."""
    return not (override.is_hydra_override() or override.is_sweep_override() or override.is_delete())

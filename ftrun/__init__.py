"""Transfer learning as experiments: composed YAML in, an honest run directory out."""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

__version__ = "0.1.0"

_HERE = Path(__file__).resolve().parent
ASSETS = _HERE / "assets"
CONF = _HERE / "conf"  # in a wheel
if not CONF.is_dir():
    CONF = _HERE.parent / "conf"  # in the repository

# Old import paths that people have in their own files, for one release: launch.Page and launch.Sweep as
# callbacks in YAML, export.reload in the README of a saved model.
_MOVED = {"ftrun.launch": "ftrun.experiments.callbacks", "ftrun.export": "ftrun.models.reload"}


class _Moved(ModuleType):
    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # who looks through all modules loads none
            raise AttributeError(name)
        return getattr(import_module(_MOVED[self.__name__]), name)


launch, export = (sys.modules.setdefault(old, _Moved(old)) for old in _MOVED)

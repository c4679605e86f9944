"""Transfer learning as experiments: composed YAML in, an honest run directory out."""

from __future__ import annotations

import sys
from types import ModuleType

TYPE_CHECKING = False  # typing takes longer to import than all of this
if TYPE_CHECKING:
    from pathlib import Path

    from ftrun.commands._python import compare as compare
    from ftrun.commands._python import load as load
    from ftrun.commands._python import run as run

__version__ = "0.1.0"

ASSETS: Path
CONF: Path  # inside the package in a wheel, beside it in the repository


PYTHON = ("run", "compare", "load")  # what ftrun is from Python


def __getattr__(name: str) -> object:
    """What is imported when it is first asked for: until then Ctrl-C meets little (see __main__)."""
    if name in PYTHON:
        from importlib import import_module

        return getattr(import_module("ftrun.commands._python"), name)
    if name not in ("ASSETS", "CONF"):
        raise AttributeError(f"module 'ftrun' has no attribute '{name}'")
    from pathlib import Path

    here = Path(__file__).resolve().parent
    inside = (here / "conf").is_dir()
    globals().update(ASSETS=here / "assets", CONF=here / "conf" if inside else here.parent / "conf")
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *PYTHON, "ASSETS", "CONF"})


# Old import paths that people have in their own files, for one release: launch.Page and launch.Sweep as
# callbacks in YAML, export.reload in the README of a saved model.
_MOVED = {"ftrun.launch": "ftrun.experiments.callbacks", "ftrun.export": "ftrun.models.reload"}


class _Moved(ModuleType):
    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # who looks through all modules loads none
            raise AttributeError(name)
        from importlib import import_module

        return getattr(import_module(_MOVED[self.__name__]), name)


launch, export = (sys.modules.setdefault(old, _Moved(old)) for old in _MOVED)

"""Transfer learning as experiments: composed YAML in, an honest run directory out."""

from pathlib import Path

__version__ = "0.1.0"

_HERE = Path(__file__).resolve().parent
ASSETS = _HERE / "assets"
CONF = _HERE / "conf"  # in a wheel
if not CONF.is_dir():
    CONF = _HERE.parent / "conf"  # in the repository

"""Transfer learning as experiments: composed YAML in, an honest run directory out."""

from pathlib import Path

__version__ = "0.1.0"

_HERE = Path(__file__).resolve().parent
CONF = (
    _HERE / "conf" if (_HERE / "conf").is_dir() else _HERE.parent / "conf"
)  # in a wheel, else in the repository

"""The wheel carries the package, its assets and conf/, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent


def files_below(folder: str) -> dict[str, bytes]:
    paths = (path for path in (ROOT / folder).rglob("*") if path.is_file())
    kept = (path for path in paths if "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in kept}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    place = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (file,) = place.glob("ftrun-*-py3-none-any.whl")
    with ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.slow
def test_conf_and_package_are_inside_byte_for_byte(wheel: dict[str, bytes]) -> None:
    package, conf = files_below("ftrun"), files_below("conf")
    assert any(name.startswith("ftrun/assets/") for name in package) and "conf/config.yaml" in conf
    expected = package | {f"ftrun/{name}": content for name, content in conf.items()}
    inside = {name: content for name, content in wheel.items() if ".dist-info/" not in name}
    assert inside == expected


@pytest.mark.slow
def test_the_command_and_the_licence_are_declared(wheel: dict[str, bytes]) -> None:
    about = {name.split("/", 1)[1]: content for name, content in wheel.items() if ".dist-info/" in name}
    assert b"ftrun = ftrun.__main__:main" in about["entry_points.txt"]
    assert about["licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()

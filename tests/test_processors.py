"""The tests of images once more with the kernels of a processor with AVX2 only, in two processes.

Where the processor has no more than that, or is none of x86, they are the same kernels twice.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MARK = "\npytestmark = pytest.mark.images\n"
FILES = [path for path in sorted(TESTS.rglob("test_*.py")) if MARK in path.read_text(encoding="utf-8")]


@pytest.mark.ci
@pytest.mark.parametrize("paths", [FILES[: len(FILES) // 2], FILES[len(FILES) // 2 :]], ids=["first", "last"])
def test_images_pass_with_the_kernels_of_avx2(paths, tmp_path):
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--basetemp", str(tmp_path / "again")]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *map(str, paths)],
        cwd=TESTS.parent, env={**own, "ONEDNN_MAX_CPU_ISA": "AVX2"}, capture_output=True, text=True,
    )  # fmt: skip
    code = result.returncode
    died = f"died by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    said = result.stdout[-4000:] + result.stderr[-2000:]
    assert code == 0, f"pytest {died} under ONEDNN_MAX_CPU_ISA=AVX2\n{said}"


def test_there_are_files_of_images():
    assert {"test_image", "test_contrastive"} <= {path.stem for path in FILES}

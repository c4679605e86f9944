"""Import paths of the release before, which people have in files of their own."""

from __future__ import annotations

import subprocess
import sys


def test_old_import_paths_give_the_new_things() -> None:
    from ftrun.export import reload as old_reload
    from ftrun.launch import Page as OldPage
    from ftrun.launch import Sweep as OldSweep

    from ftrun.experiments.callbacks import Page, Sweep
    from ftrun.models.reload import reload

    assert (OldPage, OldSweep, old_reload) == (Page, Sweep, reload)


def test_hydra_finds_a_callback_by_its_old_path() -> None:
    from hydra._internal.utils import _locate

    from ftrun.experiments.callbacks import Page

    assert _locate("ftrun.launch.Page") is Page


def test_old_import_paths_load_nothing_by_themselves() -> None:
    code = (
        "import sys, ftrun, ftrun.launch, ftrun.export; hasattr(ftrun.launch, '__path__');"
        "sys.exit(bool({'torch', 'hydra', 'ftrun.experiments.callbacks', 'ftrun.models'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

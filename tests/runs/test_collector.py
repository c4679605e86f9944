"""The garbage collector: what it leaves alone after the first of many runs, and what it still finds."""

import gc
import weakref

from ftrun.runs import collector


class Kept:
    """Something in a cycle with itself."""

    def __init__(self):
        self.own = self


def test_libraries_are_exempt_once_and_a_later_runs_garbage_is_found(monkeypatch):
    freeze, made = gc.freeze, []
    monkeypatch.setattr(gc, "freeze", lambda: made.append(freeze()))
    monkeypatch.setattr(collector, "_exempt", False)
    library, earlier = Kept(), weakref.ref(Kept())
    collector.exempt_libraries()
    assert earlier() is None  # garbage goes before the rest is exempt
    assert len(made) == 1 and not any(each is library for each in gc.get_objects())
    later = Kept()
    collector.exempt_libraries()
    assert len(made) == 1 and any(each is later for each in gc.get_objects())
    seen = weakref.ref(later)
    del later
    gc.collect()
    assert seen() is None

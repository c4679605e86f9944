"""Files of every form with anything in them: read, or refused in one line; the same examples each time."""

import pytest
from fuzzing import SEEN
from fuzzing.files import check
from hypothesis import HealthCheck, settings

EXAMPLES = 200


@pytest.mark.images
def test_whatever_a_file_holds() -> None:
    """`scripts/fuzz files N` tries others."""
    SEEN.clear()
    quiet = settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None)
    settings(quiet, suppress_health_check=[*HealthCheck])(check)()
    assert SEEN["refused"] > EXAMPLES / 10 and SEEN.total() - SEEN["refused"] > EXAMPLES / 10, SEEN

"""What is ended at a change of the disk and goes on leaves what nothing ended, byte for byte."""

import random

import kill_cases
import pytest
from killing import Trial
from lab import STRATEGIES, kept, sampled

NAMES = [*kill_cases.ON_DIGITS, *kill_cases.ON_TEXT, *kill_cases.OTHERS]
ALWAYS = {"full", "sweep"}  # .ci/run ends the others as well
CASES = kept(NAMES, ALWAYS)


@pytest.fixture(scope="session")
def cases(tmp_path_factory):
    return kill_cases.cases(tmp_path_factory.mktemp("files"))


def test_every_strategy_is_among_them(cases):
    assert {*STRATEGIES} == {*kill_cases.ON_DIGITS, *kill_cases.ON_TEXT} and {*cases} == {*NAMES}


@pytest.mark.parametrize("name", CASES)
def test_killed_and_taken_up_again_it_is_the_same(cases, tmp_path, name):
    trial = Trial(cases[name], tmp_path)
    trial.reference()
    # those that draw their training batches are killed while they finish: what they then score is not drawn
    first = "/model/" if name in kill_cases.DRAWING else ""
    assert trial.ended(random.Random(name), cases[name].ends, "kill", first) > 1


@pytest.mark.parametrize(("name", "way"), sampled(["full", "source", "sweep"], ["full", "interrupt"], 2))
def test_a_full_disk_and_ctrl_c_are_said_and_lose_nothing(cases, tmp_path, name, way):
    trial = Trial(cases[name], tmp_path)
    trial.reference()
    assert trial.ended(random.Random(f"{name} {way}"), 3, way)

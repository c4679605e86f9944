"""What protect= adds is what the strategy of that name does: both files have the same settings and values."""

import pytest
import yaml

from ftrun import CONF

NAMES = sorted(path.stem for path in (CONF / "protect").glob("*.yaml") if path.stem != "none")


def settings(group, name):
    return yaml.safe_load((CONF / group / f"{name}.yaml").read_text())


def comments(group, name):
    lines = (CONF / group / f"{name}.yaml").read_text().splitlines()
    return {line.partition(":")[0]: line.partition("# ")[2] for line in lines if line[0] not in "# "}


@pytest.mark.parametrize("name", NAMES)
def test_protect_agrees_with_its_strategy(name):
    protect, strategy = settings("protect", name), settings("strategy", name)
    assert protect.pop("name") == strategy.pop("strategy") == name
    strategy.pop("search", None)  # ranges of ftrun compare --search
    strategy.pop("train", None)  # the learning rate is that of the strategy it goes with
    assert protect == strategy
    described, same = comments("strategy", name), comments("protect", name)
    assert {key: described[key] for key in protect} == {key: same[key] for key in protect}

"""What `ftrun push` uploads, to a stand-in for the Hub, and what it refuses before anything leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hub_stand_in import stand_in
from huggingface_hub import ModelCard, constants
from lab import ran, settings, toy
from saved import refused

from ftrun.experiments.exporting.push import by_name
from ftrun.runs.run import Run

pytestmark = pytest.mark.enable_socket
QUICK = ["baselines=false", "train.max_steps=1", "task.subset=20"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    place = tmp_path_factory.mktemp("push")
    return ran(place / "run", settings("task=digits", "model=cnn_small", "device=cpu", *QUICK))


@pytest.fixture(scope="module")
def lora(toy_files, tiny_dir, tmp_path_factory) -> Run:
    place = tmp_path_factory.mktemp("lora")
    return ran(place / "run", toy(toy_files, tiny_dir("bert"), *QUICK, "strategy=lora", "rank=2"))


@pytest.fixture
def hub(monkeypatch):
    with stand_in() as found:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", found.address)
        monkeypatch.setenv("HF_TOKEN", "hf_none")
        yield found


def files_in(place: Path, *without: str) -> dict[str, bytes]:
    every = {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}
    return {name: content for name, content in every.items() if name not in without}


def seen_by(asked: dict) -> str:
    """Who can read a repository that was asked for, as huggingface_hub 1 and 2 say it."""
    return asked.get("visibility") or ("private" if asked["private"] else "public")


def test_a_run_is_uploaded_whole_and_its_card_loads_it_by_its_name(run, hub, ftrun_inprocess):
    out = ftrun_inprocess("push", str(run.path), "me/model").stdout
    assert f"{run.path} to me/model, private:" in out and f"uploaded: {hub.address}/me/model" in out
    assert seen_by(hub.asked[0]) == "private"
    found = hub.files["me/model"]
    card = found.pop("README.md").decode()
    assert found == files_in(run.model_dir, "README.md", "sha256.json")
    assert all(f"  {name} " in out for name in found)
    assert 'from_pretrained("me/model")' in card and "DIR" not in card
    ftrun_inprocess("push", str(run.path), "me/other", "--public")
    assert seen_by(hub.asked[1]) == "public"


def test_adapters_of_a_name_on_the_hub_go_without_their_base(lora, hub, tmp_path, ftrun_inprocess):
    """The run is told that its base has a name; then base/ and the index stay here."""
    shutil.copytree(lora.path, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace(lora.config["model"]["name"], "org/bert"))
    path = tmp_path / "run" / "model" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "org/bert"}))
    ftrun_inprocess("push", "run", "me/lora")
    found = hub.files["me/lora"]
    assert {"adapter_config.json", "adapter_model.safetensors", "config.json"} <= found.keys()
    assert not [name for name in found if name.startswith("base/") or name.endswith("index.json")]
    text = ModelCard(found["README.md"].decode()).text
    assert 'from_pretrained("org/bert", config=AutoConfig.from_pretrained("me/lora"))' in text
    assert 'net.load_adapter("me/lora")' in text


def test_what_is_advised_for_a_base_that_is_not_on_the_hub_can_be_typed(
    lora, hub, tmp_path, ftrun_inprocess, monkeypatch
):
    """Also where it has been merged, which a second time is refused."""
    shutil.copytree(lora.path, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    words, pushing = ("push", "run", "me/lora"), "ftrun push run/merged me/lora"
    assert f"possible: ftrun merge run, then {pushing}\n" in refused(ftrun_inprocess, *words)
    ftrun_inprocess("merge", "run")
    assert f"possible: {pushing}\n" in refused(ftrun_inprocess, *words)
    ftrun_inprocess(*pushing.split()[1:])
    assert "model.safetensors" in hub.files["me/lora"]


def test_a_merged_network_is_uploaded_without_the_settings_of_its_run(lora, hub, ftrun_inprocess):
    assert "possible: ftrun merge" in refused(ftrun_inprocess, "push", str(lora.path), "me/lora")
    ftrun_inprocess("merge", str(lora.path), "--output", "whole")
    ftrun_inprocess("push", "whole", "me/whole")
    assert {"config.json", "model.safetensors", "README.md"} <= hub.files["me/whole"].keys()
    assert not {"ftrun.yaml", "sha256.json"} & hub.files["me/whole"].keys()
    assert not any(str(lora.path.parent).encode() in each for each in hub.files["me/whole"].values())


def test_nothing_is_uploaded_of_what_is_refused(run, hub, tmp_path, ftrun_inprocess):
    copy = shutil.copytree(run.path, tmp_path / "run")
    assert "nothing was uploaded" in ftrun_inprocess("push", "run", "me/model", "--dry").stdout
    assert "is no name on the Hub" in refused(ftrun_inprocess, "push", "run", "a name")
    card = copy / "model" / "README.md"
    text = card.read_text()
    card.write_text(f"{text}\nIt lies in {tmp_path}/run.\n")
    said = refused(ftrun_inprocess, "push", "run", "me/model")
    assert f"README.md names a place on this machine, {tmp_path}/run" in said
    card.write_text(text)
    config = copy / "model" / "config.json"
    config.write_text(config.read_text().replace("filters", "filterz"))
    assert "the content of config.json has changed" in refused(ftrun_inprocess, "push", "run", "me/model")
    (copy / "result.json").unlink()
    assert "is not finished" in refused(ftrun_inprocess, "push", "run", "me/model")
    (copy / "failure.json").write_text('{"message": "out of memory", "exit_code": 4}')
    assert "has failed" in refused(ftrun_inprocess, "push", "run", "me/model")
    assert "is no finished run" in refused(ftrun_inprocess, "push", str(tmp_path), "me/model")
    assert not hub.files and not hub.asked


def test_the_hub_s_and_the_network_s_refusals_are_a_line(run, hub, monkeypatch, ftrun_inprocess):
    def said() -> str:
        result = ftrun_inprocess("push", str(run.path), "me/model", check=False)
        assert result.returncode == 1 and result.stderr.count("\n") == 1, result.stderr
        return result.stderr

    hub.status = 403
    assert "does not let you write to me/model (403); possible: hf auth login" in said()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in said()


def test_lines_that_want_files_fetch_them():
    code = 'from a import b\n\nnet = b("DIR/base", reader="DIR")\nprint(net)'
    assert by_name(code, "me/x") == (
        "from huggingface_hub import snapshot_download\nfrom a import b\n\n"
        'place = snapshot_download("me/x")\n\nnet = b(f"{place}/base", reader=place)\nprint(net)'
    )

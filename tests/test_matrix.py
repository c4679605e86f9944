"""Some cells of the matrix of networks and strategies: those that were hard, each a run to its end."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts" / "bench"))
from matrix import BY_TASK, COLUMNS, as_table, cell
from tiny_networks import NETWORKS, checkpoint

TRAINED = ""
CELLS = {
    ("DINOv2", "gradual_unfreeze"): TRAINED,  # a token for masked patches, which no loss reaches
    ("Longformer", "mlm full"): TRAINED,  # likewise projections of global attention
    ("Longformer", "freeze"): TRAINED,  # it pads further than the batch, so that features cannot be kept
    ("Funnel", "mlm full"): TRAINED,  # transformers empties the row of its padding token
    ("XLM", "freeze"): TRAINED,  # it changes what a layer returned in place
    ("XLNet", "pfeiffer"): TRAINED,  # max_position_embeddings is -1
    ("XLNet", "lora"): "targets=attention: no linear layer is part of the attention of .*: targets=all",
    ("T5", "lora"): TRAINED,
    ("T5", "mlm full"): "task=mlm needs a head that predicts masked tokens; transformers has none for .*t5",
    ("BART", "adapter"): TRAINED,
    ("BLOOM", "lm lora"): TRAINED,
    ("Swin", "adapter"): TRAINED,
    ("LeViT", "lora"): TRAINED,  # frozen statistics of batch normalisation
    ("ConvNeXt", "dora all"): TRAINED,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("matrix")


@pytest.mark.parametrize(("network", "column"), CELLS)
def test_a_cell_is_trained_or_refused_in_a_sentence(network, column, place, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    words = (BY_TASK | COLUMNS)[column]
    found = cell(network, column, words, checkpoint(network, place / network), place)
    log = (place / "matrix.log").read_text()
    says = CELLS[network, column]
    assert found.state == ("refused" if says else "trained"), f"{found.says}\n{log[-3000:]}"
    assert re.search(says, found.says) and "\n" not in found.says
    marks = as_table([found], [column], markdown=False)
    assert marks[1].split() == [network, "1" if says else "●"] and len(NETWORKS) >= 30

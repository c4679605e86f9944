"""How networks of other builds are cut: nested lists, lists side by side, decoders, embeddings inside."""

import pytest
import torch
import transformers

from ftrun.errors import ConfigError
from ftrun.models.heads import lists_of_layers
from ftrun.models.layers import adapted_layers, output_layers
from ftrun.models.model import Model

HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
SMALL = {"vocab_size": 20, "d_model": 8, "encoder_layers": 2, "decoder_layers": 3, **HEADS}
OWN = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
T5 = {"vocab_size": 20, "d_model": 8, "d_kv": 4, "num_heads": 2, "num_layers": 2}
NETWORKS = {
    "Bart": ("BartForSequenceClassification", SMALL),
    "T5": ("T5ForQuestionAnswering", T5),
    "OPT": ("OPTForSequenceClassification", OWN),
    "XLM": ("XLMForSequenceClassification", {"vocab_size": 20, "emb_dim": 8, "n_layers": 3, "n_heads": 2}),
    "Swin": ("SwinForImageClassification", {"embed_dim": 4, "depths": [1, 4], "num_heads": [1, 1]}),
    "Albert": ("AlbertForSequenceClassification", {**OWN, "embedding_size": 4}),
    "Bloom": ("BloomForSequenceClassification", OWN),
    "Funnel": ("FunnelForTokenClassification", {
        "vocab_size": 20, "block_sizes": [1, 2], "d_model": 8, "n_head": 2, "num_decoder_layers": 2,
    }),
    "GPTNeoX": ("GPTNeoXForSequenceClassification", OWN),
    "MPNet": ("MPNetForSequenceClassification", OWN),
    "Phi": ("PhiForSequenceClassification", OWN),
    "MobileNetV2": ("MobileNetV2ForImageClassification", {"depth_multiplier": 0.25, "min_depth": 8}),
    "RegNet": ("RegNetForImageClassification", {"depths": [1, 1], "hidden_sizes": [8, 8], "groups_width": 4}),
}  # fmt: skip


@pytest.fixture(scope="module")
def outlined():
    made = {}

    def make(family):
        if family not in made:
            network, shape = NETWORKS[family]
            config = getattr(transformers, f"{family}Config")(**shape)
            with torch.device("meta"):
                made[family] = Model(getattr(transformers, network)(config), None, family, set())
        return made[family]

    return make


@pytest.mark.parametrize(
    ("family", "lists", "stages"),
    [
        ("Bart", {"encoder.layers": 0, "decoder.layers": 2}, {
            "net.model.shared.weight": 0, "net.model.encoder.embed_positions.weight": 0,
            "net.model.decoder.layernorm_embedding.bias": 0, "net.model.encoder.layers.1.fc2.weight": 2,
            "net.model.decoder.layers.0.fc1.bias": 3, "net.classification_head.dense.weight": 6,
        }),
        ("T5", {"encoder.block": 0, "decoder.block": 2}, {
            "net.shared.weight": 0, "net.decoder.block.1.layer.2.DenseReluDense.wo.weight": 4,
            "net.decoder.final_layer_norm.weight": 5, "net.qa_outputs.weight": 5,
        }),
        ("OPT", {"decoder.layers": 0}, {
            "net.model.decoder.embed_positions.weight": 0, "net.model.decoder.final_layer_norm.weight": 3,
        }),
        ("XLM", {"attentions": 0, "layer_norm1": 0, "ffns": 0, "layer_norm2": 0}, {
            "net.transformer.position_embeddings.weight": 0, "net.transformer.attentions.2.q_lin.weight": 3,
            "net.transformer.ffns.0.lin1.weight": 1, "net.sequence_summary.summary.weight": 4,
        }),
        ("Swin", {"encoder.layers": 0}, {  # and not the four blocks of its last stage
            "net.swin.embeddings.norm.weight": 0,
            "net.swin.encoder.layers.0.blocks.0.layernorm_before.bias": 1,
            "net.swin.encoder.layers.1.blocks.3.layernorm_before.bias": 2, "net.swin.layernorm.bias": 3,
        }),
    ],
)  # fmt: skip
def test_what_is_below_a_layer_what_is_one_and_what_is_above(outlined, family, lists, stages):
    model = outlined(family)
    assert lists_of_layers(model.net.base_model) == lists
    own = dict(model.named_parameters())
    assert {name: model.stage_of(name) for name in stages if name in own} == stages
    found = [model.stage_of(name) for name in own]
    assert set(found) == set(range(model.depth + 2)) and len(model.layers()) == model.depth


def test_freezing_from_below_freezes_the_embeddings_beside_the_list(outlined):
    """Those of OPT stand in the decoder that holds its layers, those of BART in both halves."""
    from ftrun.strategies.freeze import Freeze

    for family in ("OPT", "Bart"):
        model = outlined(family)
        Freeze(1, None, None).prepare(model)
        assert not any(".embed" in name for name in model.trained())
        model.requires_grad_(True)


@pytest.mark.parametrize(
    ("family", "attention", "adapters"),
    [
        ("Bart", 2 * 4 + 3 * 8, 2 * 2 + 3 * 3),
        ("T5", 2 * 4 + 2 * 8, 2 * 2 + 2 * 3),
        ("XLM", 12, 6),
        ("Swin", 20, 10),
        ("Albert", 4, 2),
        ("Bloom", 4, 4),
        ("Funnel", 20, 10),
        ("GPTNeoX", 4, 4),
        ("MPNet", 8, 4),
        ("OPT", 8, 4),
        ("Phi", 8, 4),
    ],
)
def test_both_halves_and_every_block_have_their_updates_and_adapters(outlined, family, attention, adapters):
    model = outlined(family)
    assert len(adapted_layers(model, "attention")) == attention
    assert len(output_layers(model, "houlsby")) == adapters


def test_a_gate_of_channels_is_no_attention_and_grouped_convolutions_are_no_targets(outlined):
    model = outlined("RegNet")
    found = adapted_layers(model, "attention")
    assert found == adapted_layers(model, "all") and any(".attention." in name for name in found)
    assert all(model.net.get_submodule(name).groups == 1 for name in found)
    with pytest.raises(ConfigError, match="none is known of feed-forward; possible: strategy=lora, bitfit"):
        output_layers(model, "houlsby")
    with pytest.raises(ConfigError, match="have none; its convolutions are asked for their stride"):
        adapted_layers(outlined("MobileNetV2"), "all")

"""A network's tokenizer: the checkpoint's, or one trained on the spot.

That one is byte-level pair encoding (Sennrich et al. 2016; Radford et al. 2019).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun.errors import ConfigError, counted, told
from ftrun.models.architecture import is_decoder
from ftrun.models.files.reading import loading, stored

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from ftrun.models.files.locate import Checkpoint
    from ftrun.models.spec import Spec

BYTES = 256  # the smallest vocabulary: no pair is ever merged
END = "<|endoftext|>"  # begins and ends a document, and pads, as in GPT-2
PIECES = ("tokenizer.model", "spm.model", "spiece.model", "sentencepiece.model", "sentencepiece.bpe.model")
FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", *PIECES)
OBJECTS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
MARKS = "▁Ġ#Ċ </w>"  # of which the tokens of an empty vocabulary are made, beside special ones
MASKING = {  # the names that BERT's tokens have
    "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}  # fmt: skip


def train(texts: Iterable[str], vocab: int, masking: bool = False) -> PreTrainedTokenizerBase:
    """A tokenizer of `vocab` tokens, the 256 bytes included, and the special ones beside them.

    Nothing is unknown to it and nothing is normalised, so every text comes back from its tokens. With
    `masking` it has the special tokens of BERT and puts [CLS] and [SEP] around a text or a pair.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = MASKING if masking else dict.fromkeys(("bos_token", "eos_token", "pad_token"), END)
    names = list(dict.fromkeys(special.values()))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab + len(names),
        special_tokens=names,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    inputs = ["input_ids", "attention_mask"]
    if masking:
        ends = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
        )
        inputs.insert(1, "token_type_ids")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=inputs, clean_up_tokenization_spaces=False, **special
    )


def brings_one(place: str) -> bool:
    """Whether a checkpoint directory holds a tokenizer; a name on the Hub is taken to."""
    directory = Path(place)
    return not directory.is_dir() or any((directory / name).is_file() for name in FILES)


def load_tokenizer(
    place: Checkpoint, config: PretrainedConfig, made: PreTrainedTokenizerBase | None
) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer, or one that was `made` for a network which then has as many tokens.

    It has a token for padding, and a decoder is told which: it classifies at the last other token.
    """
    if made is not None:
        config.vocab_size = len(made)
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            setattr(config, name, getattr(made, name))
        return made
    tokenizer = open_tokenizer(place.name, place.label, **place.options)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise ConfigError(
            f"{place.label}: the tokenizer has no token to pad with; possible: a pad_token or"
            " eos_token in its tokenizer_config.json"
        )
    if config.pad_token_id is None or is_decoder(config):
        config.pad_token_id = tokenizer.pad_token_id
    fit_inputs(tokenizer, config, place.label)
    return tokenizer


def open_tokenizer(place: str | Path, named: str, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint, tried on a pair of texts.

    Raises ConfigError, which begins with what is `named`, where a file is damaged or no word is known.
    """
    from transformers import AutoTokenizer

    there = [file for file in (*FILES, *OBJECTS) if (Path(place) / file).is_file()]
    for file in there:
        if file in OBJECTS:
            stored(Path(place) / file)
    if FILES[0] not in there and (pieces := [file for file in there if file in PIECES]):
        refuse_without_sentencepiece(named, pieces[0])
    with loading(named, place, there[0] if there else FILES[0]):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(place, **options)
        former = cutting(tokenizer)
        tokenizer("a", "b")
        restore_cutting(tokenizer, former)
    if not knows_words(tokenizer):
        raise ConfigError(
            f"{named} has no vocabulary: its tokenizer knows {counted(len(tokenizer), 'special token')} and"
            f" no word; possible: the {FILES[0]} of the checkpoint beside its config.json"
        )
    return tokenizer


def refuse_without_sentencepiece(named: str, file: str) -> None:
    """ConfigError where `file`, a vocabulary of sentencepiece (Kudo and Richardson 2018), cannot be read."""
    try:
        from sentencepiece import sentencepiece_model_pb2  # noqa: F401
    except Exception as error:  # protobuf has one of its own for a version that does not go with the other
        raise ConfigError(
            f"{named}: {file} is read by sentencepiece and protobuf, which do not work here ({told(error)});"
            " install them: pip install --upgrade sentencepiece protobuf"
        ) from error


def knows_words(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether it has tokens beside special ones; transformers makes one without where files are missing."""
    if len(tokenizer) > BYTES + len(tokenizer.all_special_tokens):
        return True
    special = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    return any(token.strip(MARKS) for token in {*tokenizer.get_vocab()} - special)


def fit_inputs(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, label: str) -> None:
    """Let the tokenizer give token types only to a network that tells two of them apart.

    Raises ConfigError, which begins with `label`, where it knows tokens that the network has no weights for.
    """
    count = max(len(tokenizer), 1 + max(tokenizer.get_vocab().values()))  # ids may leave numbers out
    if count > config.vocab_size:
        raise ConfigError(f"{label}: the tokenizer has {count} tokens, the network {config.vocab_size}")
    if getattr(config, "type_vocab_size", 0) < 2:
        names = tokenizer.model_input_names
        tokenizer.model_input_names = [name for name in names if name != "token_type_ids"]


def trained_for(spec: Spec, place: str, pretrained: bool) -> PreTrainedTokenizerBase | None:
    """A tokenizer trained on the task's texts, where it is asked for or `place` brings none; else None.

    Raises ConfigError for pretrained weights, which belong to another one.
    """
    own = spec.tokenizer
    if own is None or own.wanted is False or (own.wanted is None and brings_one(place)):
        return None
    if pretrained:
        raise ConfigError(
            f"model.name={place} has no tokenizer, and its weights belong to one; possible: the {FILES[0]} of"
            " the checkpoint beside its config.json, or model.init=random"
        )
    return train(own.texts(), own.vocabulary, own.masking)


def cutting(processor: Any) -> Any:
    """How a fast tokenizer was last told to cut and to pad, which it saves too; None for everything else."""
    from transformers import PreTrainedTokenizerFast

    if not isinstance(processor, PreTrainedTokenizerFast):
        return None
    return processor.backend_tokenizer.truncation, processor.backend_tokenizer.padding


def restore_cutting(processor: Any, former: Any) -> None:
    """Tell a tokenizer what `cutting` found."""
    if former is None:
        return
    backend, (truncation, padding) = processor.backend_tokenizer, former
    backend.no_truncation() if truncation is None else backend.enable_truncation(**truncation)
    backend.no_padding() if padding is None else backend.enable_padding(**padding)

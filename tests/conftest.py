"""What tests share: tiny random models, a small task that can be learned, ftrun itself, and no network."""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from losses import Losses

CACHE = tempfile.TemporaryDirectory(prefix="ftrun-tests-")  # Hub and data set caches: not the user's own
TESTS = str(Path(__file__).parent)
OFFLINE = str(Path(TESTS) / "offline")
os.environ.update(
    HF_HOME=CACHE.name, XDG_CACHE_HOME=CACHE.name, HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false",
    NO_COLOR="1", COLUMNS="160",
    PYTHONPATH=os.pathsep.join([OFFLINE, TESTS, str(Path(TESTS).parent)]),  # for processes that tests start
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """A worker that dies between two tests, or a test that no worker came to, fails the whole."""
    if not hasattr(config, "workerinput"):  # it is no worker itself
        config.pluginmanager.register(Losses())


Text = tuple[str, str]
PLAIN = "the film was plot actor a very is and story scene of music this".split()
TELLING = {"positive": ["good", "fine", "lovely"], "negative": ["bad", "awful", "dull"]}
SPLITS = {"train": 120, "validation": 40, "test": 40}


def toy_rows(count: int, chance: random.Random) -> list[Text]:
    """Sentences of 4 to 21 words in which one word tells the label; the labels take turns."""
    rows = []
    for number in range(count):
        label = ("negative", "positive")[number % 2]
        words = chance.choices(PLAIN, k=chance.randint(3, 20))
        words.insert(chance.randrange(len(words)), chance.choice(TELLING[label]))
        rows.append((" ".join(words), label))
    return rows


@pytest.fixture(scope="session")
def toy_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with train, validation and test as .csv and as .tsv; columns text and label."""
    place = tmp_path_factory.mktemp("toy")
    chance = random.Random(0)
    for split, count in SPLITS.items():
        rows = [("text", "label"), *toy_rows(count, chance)]
        for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
            with (place / f"{split}{suffix}").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return place


def tiny_network(name: str, vocabulary: int) -> Any:
    """Two layers, 32 wide, 64 positions, random weights."""
    import transformers

    shape = {
        "vocab_size": vocabulary, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64, "max_position_embeddings": 64, "pad_token_id": 0,
    }  # fmt: skip
    special = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    family, own = {
        "bert": ("Bert", {}),
        "roberta": ("Roberta", {"max_position_embeddings": 66, "pad_token_id": 1, "type_vocab_size": 1}),
        "distilbert": ("DistilBert", {}),
        "modernbert": ("ModernBert", special),
    }[name]
    config = getattr(transformers, f"{family}Config")(**{**shape, **own})
    return getattr(transformers, f"{family}Model")(config)


def tiny_tokenizer(name: str) -> Any:
    """WordPiece over the toy sentences; BERT's own class gives the token types that only BERT has."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    if name == "roberta":
        special[:2] = ["[UNK]", "[PAD]"]  # its positions are counted from the padding token's number
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    texts = [text for text, _ in toy_rows(200, random.Random(0))] + [
        "abcdefghijklmnopqrstuvwxyz 0123456789 .,;!?"
    ]
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    names = {f"{token.strip('[]').lower()}_token": token for token in special}
    inputs = ["input_ids", *(["token_type_ids"] if name == "bert" else []), "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **names)


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`tiny_dir("bert")`: a checkpoint directory; there are bert, roberta, distilbert and modernbert."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            import torch

            made[name] = tmp_path_factory.mktemp(name)
            tokenizer = tiny_tokenizer(name)
            tokenizer.save_pretrained(made[name])
            with torch.random.fork_rng():
                torch.manual_seed(0)
                tiny_network(name, len(tokenizer)).save_pretrained(made[name])
        return made[name]

    return make


@pytest.fixture(scope="session")
def tiny_model_dir(tiny_dir: Callable[[str], Path]) -> Path:
    return tiny_dir("bert")


@pytest.fixture(scope="session")
def toy_words(toy_files: Path, tiny_model_dir: Path) -> list[str]:
    """The settings that make an experiment one of the toy task and the tiny BERT, on a CPU."""
    files = [f"task.{split}={toy_files / split}.csv" for split in SPLITS]
    return [
        "task=classify", *files, f"model.name={tiny_model_dir}", "task.max_length=32", "train.batch_size=16",
        "device=cpu",
    ]  # fmt: skip


@pytest.fixture
def ftrun(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """`ftrun("strategy=lora", "rank=4")`: a process of its own, by default in the test's empty directory."""

    def call(*words: str, cwd: Path = tmp_path, check: bool = True) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "ftrun", *words]
        result = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
        assert not check or result.returncode == 0, f"{words}\n{result.stdout}\n{result.stderr}"
        return result

    return call


@pytest.fixture
def ftrun_inprocess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """The same in this process, where torch is imported already."""

    def call(*words: str, cwd: Path = tmp_path, check: bool = True) -> subprocess.CompletedProcess:
        from ftrun.cli import main

        monkeypatch.setattr(sys, "argv", ["ftrun", *words])
        monkeypatch.chdir(cwd)
        with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
            try:
                code = main()
            except SystemExit as stop:  # Hydra's argument parser
                code = int(stop.code or 0)
        assert not check or code == 0, f"{words}\n{out.getvalue()}\n{err.getvalue()}"
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())

    before, path = dict(os.environ), list(sys.path)
    yield call
    sys.path[:] = path
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def still_dir(tiny_dir, tmp_path):
    """The tiny BERT without dropout."""
    import json
    import shutil

    place = tmp_path / "still"
    shutil.copytree(tiny_dir("bert"), place)
    config = json.loads((place / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (place / "config.json").write_text(json.dumps(config))
    return place

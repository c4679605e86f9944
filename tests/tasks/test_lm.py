"""Language modelling: what a block holds, what is scored, what it is told apart from, and whole runs."""

import json
import math

import pytest
import torch
from lab import ran, settings
from opened import opened
from toys_lm import files, tiny_decoder, words

from ftrun.data.documents import Columns, Document, carved, documents
from ftrun.data.streamed.documents import Stream
from ftrun.data.streamed.shards import Shard
from ftrun.data.text.packing import GIVEN, SCORED, START, pack, together
from ftrun.errors import ConfigError, DataError
from ftrun.models.tokenizer import END, train
from ftrun.runs.run import Run
from ftrun.tasks.data import TaskData
from ftrun.tasks.lm import NONE
from ftrun.tasks.losses import IGNORED
from ftrun.tasks.objective import targets_of


@pytest.fixture
def place(tmp_path):
    return files(tmp_path / "data")


def piece(*ids, prompt=0):
    return [0, *ids, 0], [START, *([GIVEN] * prompt), *([SCORED] * (len(ids) - prompt + 1))]


def quick(place, *more):
    return settings(*words(place), *more)


def test_every_token_but_the_first_of_a_document_is_scored_once():
    pieces = [piece(*range(10, 17)), piece(20), piece(*range(30, 41))]
    corpus = pack(iter(pieces), 5, False)
    labels = [label for n in range(len(corpus.edges) - 1) for label in corpus.block(n)[1] if label != IGNORED]
    assert labels == [*range(10, 17), 0, 20, 0, *range(30, 41), 0]
    assert corpus.scored == len(labels) and corpus.documents == 3
    assert {len(corpus.block(n)[0]) for n in range(4)} == {5}


def test_a_document_with_a_prompt_stays_in_one_block_and_its_prompt_is_not_scored():
    pieces = [piece(1, 2, 3, prompt=2), piece(4, 5, prompt=1), piece(6, 7, 8, 9, prompt=1)]
    corpus = pack(iter(pieces), 10, True)
    assert corpus.edges.tolist() == [0, 9, 15]
    tokens, labels, starts = corpus.block(0)
    assert tokens.tolist() == [0, 1, 2, 3, 0, 0, 4, 5, 0]
    assert labels.tolist() == [IGNORED, IGNORED, 3, 0, IGNORED, IGNORED, 5, 0, IGNORED]
    assert starts.tolist() == [True, *[False] * 4, True, *[False] * 3]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_document_in_a_pack_is_the_document_alone(tmp_path, name, attention):
    from transformers import AutoModelForCausalLM

    net = AutoModelForCausalLM.from_pretrained(
        tiny_decoder(name, tmp_path), attn_implementation=attention
    ).eval()
    pieces = [piece(*range(10, 17)), piece(20), piece(*range(30, 41)), piece(5, 6)]
    blocks = pack(iter(pieces), 64, False)
    short = pack(iter(pieces[3:]), 64, False)
    inputs, _ = together([blocks.block(0), short.block(0)], 0)
    logits = net(**inputs).logits
    begin = 0
    for ids, _ in pieces:
        alone = net(input_ids=torch.tensor([ids])).logits[0]
        torch.testing.assert_close(logits[0, begin : begin + len(ids)], alone, rtol=0, atol=1e-5)
        begin += len(ids)
    torch.testing.assert_close(logits[1, :4], alone, rtol=0, atol=1e-5)
    del inputs["attention_mask"], inputs["position_ids"]
    other = net(**inputs).logits
    assert not torch.allclose(other[0, 9:], logits[0, 9:], atol=1e-3)


def test_the_loss_is_the_one_of_transformers(place):
    data, model = opened(quick(place))
    objective, train = data.objective, data.dataset("train")
    batch = train.collate(train.examples[:3])
    with torch.no_grad():
        loss = objective.loss(model.eval()(**batch["inputs"]), batch)
        theirs = model.net(**batch["inputs"], use_cache=True).logits.log_softmax(-1)
    labels = batch["labels"]
    kept = labels >= 0
    expected = -theirs.gather(-1, labels.clamp(min=0)[..., None])[..., 0][kept].sum()
    torch.testing.assert_close(loss.sum, expected)
    assert targets_of(objective, batch) == int(kept.sum()) == objective.count([batch])
    one = [data.rows.splits["train"][0]]
    document = pack(data.task.tokens(model.tokenizer, one, dict(NONE)), 256, False).block(0)
    ids = torch.tensor([document[0].tolist()])
    whole, _ = together([document], 0)
    ours = {"inputs": whole, "labels": torch.tensor([document[1].tolist()]), "bytes": [1.0]}
    with torch.no_grad():
        mean = model.net(input_ids=ids, labels=ids).loss
        loss = objective.loss(model(**whole), ours)
    torch.testing.assert_close(loss.sum / targets_of(objective, ours), mean)


def test_untrained_loss_is_the_logarithm_of_the_vocabulary(place):
    run = ran(place / "run", quick(place, "train.max_steps=1", "train.lr=1e-9"))
    result = run.read_json("result.json")
    assert abs(result["test_loss"] - math.log(257)) < 0.1
    assert result["test_perplexity"] == pytest.approx(math.exp(result["test_loss"]))


def test_bits_per_byte_count_the_bytes_of_the_text_and_every_nat(place):
    run = ran(place / "run", quick(place))
    rows = TaskData.read(quick(place).task, 0).rows
    texts = [document.text for document in rows.splits["test"]]
    size, tokens = sum(map(len, texts)), sum(len(text) + 1 for text in texts)  # ASCII, bytes as tokens
    result = run.read_json("result.json")
    assert result["test_bits_per_byte"] == pytest.approx(
        result["test_loss"] * tokens / size / math.log(2), rel=1e-6
    )


def test_a_run_leaves_a_sample_that_its_seed_decides(place):
    one, other = (ran(place / name, quick(place, "task.sample_from=the")) for name in ("a", "b"))
    text = (one.path / "sample.txt").read_text()
    assert text == (other.path / "sample.txt").read_text() and text.startswith("the|") and len(text) > 8


def test_the_saved_model_and_tokenizer_load_with_transformers(place):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = ran(place / "run", quick(place))
    tokenizer = AutoTokenizer.from_pretrained(run.model_dir)
    net = AutoModelForCausalLM.from_pretrained(run.model_dir)
    assert len(tokenizer) == net.config.vocab_size == 257 and tokenizer.eos_token == END
    assert net.config.eos_token_id == net.config.bos_token_id == tokenizer.eos_token_id


def test_a_stream_gives_the_same_tokens_and_is_read_once(place, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    named = [f"task.{split}={place}/rows.jsonl" for split in ("validation", "test")]
    plain, model = opened(quick(place, *named))
    streamed, _ = opened(quick(place, *named, "task.stream=true"))
    one, other = plain.dataset("train").examples.corpus, streamed.dataset("train").examples.corpus
    assert one.tokens.tolist() == other.tokens[:].tolist() and one.bytes == other.bytes
    assert type(other.tokens).__name__ == "Numbers"
    assert "tokens from the cache" in streamed.encode(model.tokenizer, "train")[0]
    monkeypatch.setattr("ftrun.data.text.token_cache.PAYS", 100)
    (first,), (second,) = (plain.encode(model.tokenizer, "train") for _ in range(2))
    kept = plain.dataset("train").examples.corpus
    assert second == f"{first} (tokens from the cache)" and one.bytes == kept.bytes
    assert kept.tokens.tolist() == one.tokens.tolist()
    assert kept.flags.tolist() == one.flags.tolist()
    (place / "rows.jsonl").write_text('{"text": "something else than it was before"}\n' * 3)
    again, _ = opened(quick(place, *named, "task.stream=true"))
    assert "tokens from the cache" not in again.dataset("train").summary
    assert again.dataset("train").examples.corpus.documents == 3


def test_a_stream_that_stopped_goes_on_bit_for_bit(place, monkeypatch):
    from ftrun.experiments import start
    from ftrun.training.checkpoint import newest, read_tensors
    from ftrun.training.loop import Loop

    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    named = [f"task.{split}={place}/text.txt" for split in ("validation", "test")]
    more = [*named, "task.stream=true", "train.checkpoint_every=2", "task.documents=line"]
    whole = ran(place / "whole", quick(place, *more))
    honest = Loop.after_step

    def stop(self, *arguments):
        honest(self, *arguments)
        if self.state.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "after_step", stop)
    with pytest.raises(KeyboardInterrupt):
        start.run(quick(place, *more), place / "part")
    monkeypatch.setattr(Loop, "after_step", honest)
    start.resume(place / "part")
    ends = [
        read_tensors(newest(run.checkpoints / "last")[0], "weights")
        for run in (whole, Run.open(place / "part"))
    ]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    assert (whole.path / "metrics.jsonl").read_text() == (place / "part/metrics.jsonl").read_text()


def test_completions_alone_are_learned_when_asked(place):
    columns = [f"task.train={place}/asked.jsonl", "task.prompt=question", "task.completion=reply"]
    everything, model = opened(quick(place, *columns))
    answers, _ = opened(quick(place, *columns, "task.loss_on=completion"))
    text = [document.text for document in answers.rows.splits["test"]]
    prompts = [document.prompt for document in answers.rows.splits["test"]]
    corpus = answers.dataset("test").examples.corpus
    assert corpus.bytes == sum(map(len, text)) and corpus.scored == corpus.bytes + len(text)
    assert everything.dataset("test").examples.corpus.bytes == sum(map(len, [*text, *prompts]))


@pytest.mark.parametrize("long", ["truncate", "drop"])
def test_a_prompt_too_long_is_cut_from_the_left_or_dropped(tmp_path, long):
    rows = [
        {"p": "abcdefghij" * 5, "c": "xyz"},
        *({"p": f"question {n}", "c": f"answer {n}"} for n in range(20)),
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = f"{tmp_path}/rows.jsonl"
    experiment = settings(
        *words(tmp_path), f"task.train={source}", f"task.validation={source}", f"task.test={source}",
        "task.prompt=p", "task.completion=c", f"task.long={long}",
    )  # fmt: skip
    data, model = opened(experiment)
    train = data.dataset("train")
    if long == "drop":
        assert "1 too long and dropped" in train.summary and train.examples.corpus.documents == 20
        return
    assert "1 too long and cut" in train.summary
    tokens = train[0].inputs
    assert len(tokens) == 32
    assert model.tokenizer.decode(tokens, skip_special_tokens=True) == ("abcdefghij" * 5)[-27:] + "xyz"


def test_predict_scores_texts_and_completes_prompts(place, ftrun_inprocess):
    columns = [f"task.train={place}/asked.jsonl", "task.prompt=question", "task.completion=reply"]
    run = ran(place / "run", quick(place, *columns))
    pairs = [("the cat eats", " fish"), ("a dog sees", ""), ("", "")]
    rows = [{"question": question, "reply": reply} for question, reply in pairs]
    (place / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ftrun_inprocess(
        "predict", str(run.path), "--input", str(place / "new.jsonl"), "--output", str(place / "out.jsonl")
    )
    first, second, third = (json.loads(line) for line in (place / "out.jsonl").read_text().splitlines())
    assert first["tokens"] == len("the cat eats fish") + 1 and first["log_likelihood"] < 0
    expected = -first["log_likelihood"] / len("the cat eats fish") / math.log(2)
    assert first["bits_per_byte"] == pytest.approx(expected)
    assert isinstance(second["answer"], str) and second["log_likelihood"] is None
    assert third["answer"] is None and third["tokens"] is None


def test_evaluate_finds_the_run_s_scores_again(place, ftrun_inprocess):
    run = ran(place / "run", quick(place))
    said = ftrun_inprocess("evaluate", str(run.path)).stdout
    line = next(line for line in said.splitlines() if line.startswith("test_bits_per_byte"))
    assert line.split()[1] == line.split()[-1]
    other = ftrun_inprocess("evaluate", str(run.path), "--input", str(place / "text.txt")).stdout
    assert "test_perplexity" in other


def test_documents_of_a_text_are_the_whole_its_lines_or_its_paragraphs(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("one\ntwo\n\nthree\n\n\n")
    columns = Columns("text", None, None)

    def texts(how):
        return [document.text for document in documents([str(file)], columns, how)]

    assert texts("file") == texts(None) == ["one\ntwo\n\nthree\n\n\n"]
    assert texts("line") == ["one", "two", "", "three", "", ""]
    assert texts("paragraph") == ["one\ntwo", "three"]


def test_rows_can_be_the_lines_of_one_text(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": " = A = \\n"}\n{"text": ""}\n{"text": "b\\n"}\n')
    found = [*documents([str(file)], Columns("text", None, None), "file")]
    assert found == [Document("", " = A = \n\nb\n")]


def test_a_stream_s_paragraphs_are_cut_from_the_lines_of_rows(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": " a\\nb"}\n{"text": ""}\n{"text": "c\\n"}\n{"text": "d"}\n')
    stream = Stream([Shard(f"{tmp_path}/a.jsonl")], Columns("text", None, None), "paragraph", [], "train")
    assert [document.text for document in stream] == [" a\nb", "c\nd"]


def test_a_stream_of_a_saved_data_set_and_its_first_documents(place, monkeypatch):
    import datasets

    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    texts = [f"the cat eats {n} fish" for n in range(300)]
    datasets.disable_progress_bars()
    parts = {split: datasets.Dataset.from_dict({"text": texts}) for split in ("train", "validation", "test")}
    datasets.DatasetDict(parts).save_to_disk(str(place / "saved"))
    datasets.enable_progress_bars()
    splits = [f"task.{split}={place}/saved" for split in ("train", "validation", "test")]
    plain = TaskData.read(quick(place, *splits).task, 0).rows
    streamed = TaskData.read(quick(place, *splits, "task.stream=true", "task.subset=7").task, 0).rows
    assert streamed.notes == ["train: the first 7 documents (task.subset)"]
    assert [d.text for d in plain.splits["train"]] == texts
    assert [d.text for d in streamed.splits["train"]] == texts[:7]
    assert [d.text for d in streamed.splits["test"]] == texts
    with pytest.raises(DataError, match="task.text=body: row 1 of .*saved has no such column"):
        TaskData.read(quick(place, *splits, "task.stream=true", "task.text=body").task, 0)


def test_of_a_few_streamed_documents_none_are_carved_which_is_said(tmp_path):
    few, blank = tmp_path / "few.jsonl", tmp_path / "blank.jsonl"
    few.write_text("".join(json.dumps({"text": f"text {n}"}) + "\n" for n in range(5)))
    blank.write_text('{"text": " "}\n')
    words = f"task.train={few}", "task.stream=true"
    with pytest.raises(
        DataError, match="too few documents to carve (test|validation) from, one in a hundred; set"
    ):
        TaskData.read(quick(tmp_path, *words).task, 0)
    with pytest.raises(DataError, match="task.validation=.*blank.jsonl has no text"):
        TaskData.read(quick(tmp_path, *words, f"task.validation={blank}", f"task.test={few}").task, 0)


def test_one_text_is_carved_at_its_end_and_many_by_what_they_say():
    lines = [f"line {n}\n" for n in range(1000)]
    found, _ = carved([Document("", "".join(lines))], ["test", "validation"])
    parts = [found[split][0].text for split in ("train", "validation", "test")]
    assert "".join(parts) == "".join(lines) and all(part.endswith("\n") for part in parts)
    assert 0.09 < len(parts[2]) / len("".join(lines)) < 0.11
    many = [Document("", f"text {n % 50}") for n in range(200)]
    found, _ = carved(many, ["test", "validation"])
    sets = [set(found[split]) for split in ("train", "validation", "test")]
    assert [len(each) for each in sets] == [40, 5, 5] and not sets[0] & sets[1] and not sets[1] & sets[2]


def test_a_trained_tokenizer_knows_every_byte_and_is_the_same_again():
    texts = ["the cat eats the fish. ", "naïve café 漢字 🙂\n\ttabs"]
    tokenizer, again = train(texts, 280), train(texts, 280)
    assert tokenizer.backend_tokenizer.to_str() == again.backend_tokenizer.to_str()
    for text in [*texts, "never seen: Ωß\u200b"]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    small = train(texts, 256)
    assert len(small) == 257 and len(small("aé")["input_ids"]) == 3
    assert tokenizer.pad_token == tokenizer.eos_token == END


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        (["task.train=null"], ConfigError, "task.train is not set"),
        (["task.train={place}/no.txt"], DataError, r"no\.txt does not exist"),
        (["task.documents=page"], ConfigError, "task.documents is one of file, line, paragraph, not 'page'"),
        (["task.text=body"], DataError, "task.text=body: row 1 of .* has no such column; it has text"),
        (["task.loss_on=completion"], ConfigError, "task.loss_on=completion needs the columns"),
        (["task.prompt=question"], ConfigError, "task.prompt and task.completion belong together"),
        (["task.vocab=100"], ConfigError, "task.vocab is at least 256, not 100"),
        (["task.stream=true", "task.documents=file"], ConfigError, "task.documents=file keeps a whole file"),
        (["task.block=256", "task.subset=1"], DataError, "task.train has .* tokens, fewer than"),
        (["task.train={place}/empty.jsonl"], DataError, "empty.jsonl has no text"),
        (["task.train={place}/broken.txt"], DataError, "broken.txt, line 2: not valid UTF-8"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(place, more, error, message):
    (place / "empty.jsonl").write_text('{"text": " "}\n')
    (place / "broken.txt").write_bytes(b"fine\nbro\xffken\n")
    with pytest.raises(error, match=message) as raised:
        opened(quick(place, *(word.replace("{place}", str(place)) for word in more)))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("more", [["task=lm"], ["task=classify"]])
def test_the_fisher_information_of_a_language_model_holds_it(place, toy_files, more):
    """The estimator compares its hooks with a loop over examples when it begins."""
    before = ran(place / "before", quick(place))
    own = words(place) if more == ["task=lm"] else [
        "task=classify", f"task.train={toy_files}/train.csv", "task.max_length=128", "task.subset=40",
        *(word for word in words(place) if not word.startswith("task")),
    ]  # fmt: skip
    hold = ["strategy=ewc", "source=run", f"source.run={before.path}", "samples=4", "train.max_steps=2"]
    after = ran(place / "after", settings(*own, *hold)).read_json("result.json")
    assert after["sources"][0]["metric"] == "bits_per_byte"
    assert after["sources"][0]["before"]["loss"] == pytest.approx(
        before.read_json("result.json")["test_loss"], abs=1e-6
    )

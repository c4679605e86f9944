"""Features of a frozen network, computed once per example and kept.

Each example is computed in a canonical shape, so many rows and so many columns as its own length alone says,
so that its features are a function of example, weights, precision and device, whatever else is in the data:
which kernel multiplies two matrices depends on their shapes.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from ftrun.models.features.head_input import HeadInput
from ftrun.models.features.prefix import HIDDEN, Prefix, Values, lengths_of, tokens_of
from ftrun.models.features.store import CONTENT, VARIANT, VERSION, Store, directory
from ftrun.models.few_bits.half import kept
from ftrun.models.load import positions
from ftrun.runs.cache import making
from ftrun.runs.terminal import say
from ftrun.tasks.dataset import in_windows
from ftrun.tasks.parts.long_texts import by_row

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from ftrun.models.model import Model
    from ftrun.tasks.dataset import Dataset, Example

ROWS, ROWS_CPU = 64, 8  # of a canonical batch; a CPU needs few to be busy, and the last batch is filled up
TOKENS = 16_384  # of a canonical batch, at most
STEP = 8  # columns are a multiple of it
HASHED = 256  # examples collated at a time
ABOUT_LABELS = ("id2label", "label2id", "problem_type", "_name_or_path", "architectures", "ftrun_pooling")
Site = Prefix | HeadInput


def features(model: Model, dataset: Dataset, accelerator: Accelerator) -> Tensor:
    """What the head reads of each example, (rows, width), mapped from the disk; computed where it is not yet.

    The vector under the lowest linear layer that the checkpoint did not bring, of a head on every token that
    of the last one, without dropout; of a text in several windows their mean. The model is on the
    accelerator's device meanwhile.
    """
    place, read = next(model.parameters()).device, in_windows(dataset)
    model.to(accelerator.device)
    try:
        found = head_inputs(model, read, accelerator)
    finally:
        model.to(place)
    return found if read is dataset else by_row(dataset.examples, found)


def head_inputs(model: Model, dataset: Dataset, accelerator: Accelerator) -> Tensor:
    site, examples = learnt(model, dataset, accelerator), list(dataset.examples)
    store = Store(key_of(site, model, accelerator), site.parts)
    addresses = addresses_of(dataset, examples)
    try:
        complete(dataset, addresses, site, store, accelerator)
    except OSError as error:  # no room or no right to write
        say(f"features are not kept: {error}")
        return unkept(dataset, site, accelerator)
    if (file := store.places[addresses[0]][0]).addresses == addresses:
        return file.tensors[HIDDEN]
    return store.rows(addresses, 0)[HIDDEN]


def learnt(model: Model, dataset: Dataset, accelerator: Accelerator) -> HeadInput:
    """What the head reads, as it is of the longest example."""
    site = HeadInput(model)
    with evaluating(model, accelerator):
        site.learn(on_device(dataset.collate([longest(dataset.examples)])["inputs"], accelerator))
    return site


def unkept(dataset: Dataset, site: HeadInput, accelerator: Accelerator) -> Tensor:
    """The vector of each example, (rows, width), computed now and kept nowhere."""
    examples = list(dataset.examples)
    rows: dict[int, Tensor] = {}
    for numbers, values in computed(dataset, examples, site, accelerator):
        rows |= dict(zip(numbers, values[HIDDEN].cpu(), strict=False))  # the last batch is filled up
    return torch.stack([rows[number] for number in range(len(examples))])


def longest(examples: Sequence[Example]) -> Example:
    return max(examples, key=lambda example: example.size)


@contextmanager
def evaluating(model: Model, accelerator: Accelerator) -> Iterator[None]:
    """The network in evaluation mode, in the run's precision and without gradients."""
    before = model.training
    model.eval()
    try:
        with torch.no_grad(), accelerator.autocast():
            yield
    finally:
        model.train(before)


def on_device(inputs: dict[str, Tensor], accelerator: Accelerator) -> dict[str, Tensor]:
    return {name: value.to(accelerator.device) for name, value in inputs.items()}


def complete(
    dataset: Dataset,
    addresses: Sequence[bytes],
    site: Site,
    store: Store,
    accelerator: Accelerator,
    share: tuple[int, int] = (0, 1),
) -> int:
    """Compute what the store lacks, or every n-th from the m-th of it for a share (m, n); returns how many.

    `addresses` are those of the dataset's examples. Raises OSError, and what
    `out_of_memory` knows.
    """
    missing = {address: at for at, address in enumerate(addresses) if address not in store}
    if list(missing)[share[0] :: share[1]]:
        with making(directory() / f"{store.key}-{share[0]}of{share[1]}"):
            store.scan()  # as another process may have made them, for which this one has waited
            chosen = [address for address in list(missing)[share[0] :: share[1]] if address not in store]
            examples = [dataset.examples[missing[address]] for address in chosen]
            if examples:
                lengths = [example.size for example in examples]
                store.write(chosen, lengths, computed(dataset, examples, site, accelerator))
    return len(missing)


def computed(
    dataset: Dataset, examples: Sequence[Example], site: Site, accelerator: Accelerator
) -> Iterator[tuple[list[int], Values]]:
    """The features of these examples in canonical shapes, and which they are."""
    with evaluating(site.model, accelerator):
        for numbers, inputs in canonical(dataset, examples, site.model, accelerator.device.type == "cpu"):
            yield numbers, site.run(on_device(inputs, accelerator))


def canonical(
    dataset: Dataset, examples: Sequence[Example], model: Model, cpu: bool
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Numbers of examples, and their inputs in a batch of a shape that their lengths alone decide."""
    limit, fills = positions(model.net.config), padding_of(dataset, examples)
    groups: dict[int, list[int]] = defaultdict(list)
    for number, example in enumerate(examples):
        groups[max(example.size, min(-(-example.size // STEP) * STEP, limit))].append(number)
    for columns in sorted(groups, reverse=True):
        rows = max(1, min(ROWS_CPU if cpu else ROWS, TOKENS // columns))
        for start in range(0, len(groups[columns]), rows):
            numbers = groups[columns][start : start + rows]
            filled = [*numbers, *[numbers[0]] * (rows - len(numbers))]
            inputs = dataset.collate([examples[number] for number in filled])["inputs"]
            yield numbers, {name: widened(inputs, name, columns, fills) for name in inputs}


def padding_of(dataset: Dataset, examples: Sequence[Example]) -> dict[str, Any]:
    """What each input has beyond the end of a text; nothing where all are of one length."""
    ends = longest(examples), min(examples, key=lambda example: example.size)
    inputs = dataset.collate(ends)["inputs"] if ends[0].size > ends[1].size else {}
    return {name: value[1, -1].item() for name, value in inputs.items() if is_per_token(inputs, name)}


def is_per_token(inputs: dict[str, Tensor], name: str) -> bool:
    return tokens_of(inputs) is not None and inputs[name].shape == inputs["attention_mask"].shape


def widened(inputs: dict[str, Tensor], name: str, columns: int, fills: dict[str, Any]) -> Tensor:
    """Padded on the right to so many columns; images stay as they are."""
    value = inputs[name]
    if not is_per_token(inputs, name) or value.shape[1] == columns:
        return value
    return torch.nn.functional.pad(value, (0, columns - value.shape[1]), value=fills.get(name, 0))


def addresses_of(dataset: Dataset, examples: Sequence[Example]) -> list[bytes]:
    """A hash of all that the network is given of each example."""
    found: list[bytes] = [b""] * len(examples)
    order = sorted(range(len(examples)), key=lambda number: examples[number].size)
    for start in range(0, len(order), HASHED):
        numbers = order[start : start + HASHED]
        inputs = dataset.collate([examples[number] for number in numbers])["inputs"]
        lengths = lengths_of(inputs)
        arrays = [(name, is_per_token(inputs, name), inputs[name].numpy()) for name in sorted(inputs)]
        for row, number in enumerate(numbers):
            digest = hashlib.blake2b(digest_size=CONTENT)
            for name, per_token, values in arrays:
                own = values[row, : int(lengths[row])] if per_token and lengths is not None else values[row]
                digest.update(f"{name} {own.dtype} {own.shape} ".encode() + own.tobytes())
            found[number] = digest.digest() + bytes(VARIANT)
    return found


def key_of(site: Site, model: Model, accelerator: Accelerator) -> str:
    """A hash of the frozen weights, and of everything else on which features may depend but the example."""
    import transformers

    config = model.net.config
    cpu = accelerator.device.type == "cpu"
    kernels = (torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())
    content = [
        VERSION,
        torch.__version__,
        transformers.__version__,
        type(model.net).__name__,
        {name: value for name, value in config.to_dict().items() if name not in ABOUT_LABELS},
        str(getattr(config, "_attn_implementation", None)),
        accelerator.mixed_precision,
        kernels if cpu else torch.cuda.get_device_name(accelerator.device),
        [ROWS_CPU if cpu else ROWS, TOKENS, STEP],
        site.cut,
        {name: repr(part) for name, part in site.parts.items()},
    ]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode())
    for name, value in sorted(site.frozen(), key=lambda pair: pair[0]):
        own = kept(value).detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(f"{name} {kept(value).dtype} {tuple(value.shape)} ".encode())
        digest.update(memoryview(own.numpy()))
    return digest.hexdigest()[:32]

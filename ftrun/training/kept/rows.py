"""Kept features in the batches of a run: found, or computed where they are missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ftrun.errors import out_of_memory
from ftrun.models.features.prefix import Prefix, Values, lengths_of, tokens_of
from ftrun.models.features.store import CONTENT, VARIANT, Store, directory
from ftrun.runs.terminal import say
from ftrun.training.devices import largest
from ftrun.training.kept.features import ROWS_CPU, addresses_of, complete, evaluating, on_device
from ftrun.training.kept.width import RULES, coarsest

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from ftrun.tasks.dataset import Batch, Dataset, Example

KEPT = "kept/"  # how the features in a batch are named
HELD = 256 * 1024**2  # bytes in memory before they are written


class KeptRows:
    """Kept features below a cut; `failed` when they can no longer be had."""

    def __init__(self, prefix: Prefix, store: Store, accelerator: Accelerator) -> None:
        self.prefix, self.store, self.accelerator = prefix, store, accelerator
        self.cpu = accelerator.device.type == "cpu"
        self.failed = False
        self.rule = len(RULES) - 1  # of `width`
        self.contents: dict[int, bytes] = {}  # addresses, by the identity of an example
        self.alive: list[Sequence[Example]] = []  # else an identity could be given away again

    def cover(self, dataset: Dataset) -> None:
        """Know all examples of a dataset; on a GPU, have their features, each process computing a share.

        A GPU chooses its kernels by the number of rows, so there every example is computed in a canonical
        shape. A CPU does not: there features are computed where they are first needed.
        """
        examples = dataset.examples
        if self.failed or not isinstance(examples, list):
            return
        if any(id(example) not in self.contents for example in examples):
            addresses = addresses_of(dataset, examples)
            self.contents |= dict(zip(map(id, examples), addresses, strict=True))
            self.alive.append(examples)
        if self.cpu:
            return
        addresses = [self.contents[id(example)] for example in examples]
        given = dataset, addresses, self.prefix, self.store, self.accelerator
        with self.guarded():
            complete(*given, share=(self.accelerator.process_index, self.accelerator.num_processes))
        if self.accelerator.num_processes > 1:
            self.accelerator.wait_for_everyone()
            with self.guarded():
                self.store.scan()
                complete(*given)  # of a process on another machine
        self.failed = bool(self.agreed(float(self.failed)))

    def measure(self, inputs: dict[str, Tensor], sizes: Sequence[int]) -> None:
        """Find in which widths features are the same, on a CPU in fp32; `inputs` are the longest text."""
        if self.cpu and tokens_of(inputs) is not None and self.accelerator.mixed_precision == "no":
            with evaluating(self.prefix.model, self.accelerator):
                self.rule = int(self.agreed(coarsest(self.prefix, inputs, sizes)))

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Where nothing can be written, the run goes on without kept features, and says so."""
        try:
            yield
        except (OSError, MemoryError, RuntimeError) as error:
            if out_of_memory(error):
                reason = "out of memory"
            elif isinstance(error, OSError):
                reason = f"{directory()}: {error.strerror}"
            else:
                raise
            self.failed = True
            say(f"features are not kept: {reason}")

    def flush(self) -> None:
        """Have what was computed on the disk, for other runs and for a resumed one."""
        with self.guarded():
            self.store.flush()
            self.store.scan()

    def into(self, batch: Batch, examples: Sequence[Example]) -> Batch:
        """The batch, with what gives the network the kept features of its examples, where there are any."""
        few = self.cpu and len(examples) < ROWS_CPU
        if self.failed or few or any(id(example) not in self.contents for example in examples):
            return batch
        inputs = batch["inputs"]
        columns = tokens_of(inputs)
        padded = columns is not None and any(example.size < columns for example in examples)
        addresses = [self.address(example, columns, padded) for example in examples]
        values = {KEPT + name: value for name, value in self.values(addresses, inputs).items()}
        return batch | values | {"given": self.given}

    @contextmanager
    def given(self, batch: Batch) -> Iterator[None]:
        """The network with the features of the batch in the place of its frozen part."""
        values = {name.removeprefix(KEPT): batch[name] for name in batch if name.startswith(KEPT)}
        with self.prefix.given(on_device(values, self.accelerator), batch["inputs"]):
            yield

    def values(self, addresses: list[bytes], inputs: dict[str, Tensor]) -> Values:
        """The features of a batch; what is missing is computed, padded as the batch is."""
        missing = [row for row, address in enumerate(addresses) if address not in self.store]
        if missing:
            filled = [*missing, *[missing[0]] * (ROWS_CPU - len(missing))]
            some = on_device({name: value[filled] for name, value in inputs.items()}, self.accelerator)
            with evaluating(self.prefix.model, self.accelerator):
                found = self.prefix.run(some)
            lengths = lengths_of(inputs)
            for place, row in enumerate(missing):
                end = None if lengths is None else int(lengths[row])
                own = {
                    name: value[place, :end].clone()
                    if self.prefix.parts[name].ragged
                    else value[place].clone()
                    for name, value in found.items()
                }
                self.store.add(addresses[row], own)
            if self.store.held > HELD:
                self.flush()
        return self.store.rows(addresses, tokens_of(inputs) or 0)

    def address(self, example: Example, columns: int | None, padded: bool) -> bytes:
        """Of the example in a batch of so many columns, in which some text is `padded`; see `width`."""
        content = self.contents[id(example)]
        if columns is None or not self.cpu:
            return content
        number = 2 * RULES[self.rule](example.size, columns) + (padded and self.rule == len(RULES) - 1)
        return content[:CONTENT] + (len(RULES) * number + self.rule).to_bytes(VARIANT, "little")

    def agreed(self, value: float) -> float:
        """The largest of all processes' numbers."""
        return largest(self.accelerator, value)[0]

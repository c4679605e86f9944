"""Text with some of its tokens masked, anew in each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ftrun.tasks.dataset import Batch, Dataset, Draw, Example
from ftrun.tasks.parts.blocks import Pair, Pairs

if TYPE_CHECKING:
    from ftrun.data.text.masking import MaskingTokens


class Masked(Dataset):
    """Blocks or pairs of segments, masked anew in each epoch, and always the same outside of training."""

    def __init__(self, examples: Sequence[Example], summary: str, task: Any, known: MaskingTokens) -> None:
        super().__init__(examples, summary)
        self.task, self.known = task, known
        self.segments = examples.segments if isinstance(examples, Pairs) else None

    def collate(self, examples: Sequence[Example], draw: Draw | None = None) -> Batch:
        from ftrun.data.batching import pad
        from ftrun.data.text.packing import IGNORED
        from ftrun.tasks.parts.positions import positions_of

        chance = (0, 0) if draw is None else (draw.seed, draw.epoch)
        texts = [self.drawn(example, *chance) for example in examples]
        made = [self.masked(one.row, ids, *chance) for one, (ids, _, _) in zip(examples, texts, strict=True)]
        width = self._rounded(max(len(each[0]) for each in made), self.task.block)
        ids, mask = pad([each[0] for each in made], self.known.pad, width)
        labels, _ = pad([each[1] for each in made], IGNORED, width)
        kinds, _ = pad([each[2] for each in made], -1, width)
        inputs = {"input_ids": ids, "attention_mask": mask}
        batch = {"inputs": inputs, "labels": labels, "kinds": kinds, "draw": draw}
        batch["positions"] = positions_of(kinds >= 0, self._multiple > 1 and not self.task.pairs)
        return batch | self.order(texts, inputs) if self.task.pairs else batch

    def order(self, texts: list[tuple[list[int], int, int | None]], inputs: Batch) -> Batch:
        """Which tokens are of the second segment, among the inputs, and whether it is in order."""
        import torch

        place = torch.arange(inputs["input_ids"].shape[1])
        begins = torch.tensor([begin for _, begin, _ in texts])[:, None]
        inputs["token_type_ids"] = ((place >= begins) & (inputs["attention_mask"] > 0)).long()
        false = [false for _, _, false in texts]
        return {} if None in false else {"order": torch.tensor(false)}

    def drawn(self, example: Example, seed: int, epoch: int) -> tuple[list[int], int, int | None]:
        """An example's tokens, where its second segment begins, and 0 where that is in order, else 1."""
        known = self.known
        if isinstance(example, Pair):
            assert self.segments is not None
            one, other, false = self.segments.drawn(example.row, self.task.next, seed, epoch)
            return [known.cls, *one, known.sep, *other, known.sep], len(one) + 2, false
        text = example.inputs.tolist()
        if text[-1] == known.sep:
            text.pop()
        return [known.cls, *text, known.sep], self.task.block, None

    def masked(
        self, row: int, text: list[int], seed: int, epoch: int
    ) -> tuple[list[int], list[int], list[int]]:
        """Inputs, labels and kinds; by a stream of its own, so that a block is the same in every batch."""
        import torch

        from ftrun.data.text.masking import hide
        from ftrun.settings.seeds import stream

        continues_word, ids = self.known.continues_word, torch.tensor(text)
        inputs, labels, kinds = hide(
            ids,
            self.known.special[ids],
            share=self.task.mask,
            split=self.task.mask_split,
            words=None if continues_word is None else continues_word[ids],
            spans=self.task.spans,
            mask_id=self.known.mask_id,
            ordinary=self.known.ordinary,
            generator=torch.Generator().manual_seed(stream(seed, "mask", epoch, row)),
        )
        return inputs.tolist(), labels.tolist(), kinds.tolist()

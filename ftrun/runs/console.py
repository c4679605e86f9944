"""rich's console for text of users: no markup, no emoji codes, and control characters are escaped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any, cast

from rich.console import Console as RichConsole
from rich.segment import Segment

from ftrun.runs.streams import CONTROL, Output, shown

if TYPE_CHECKING:
    from rich.text import Text


class Console(RichConsole):
    """Escapes what is shown before widths are measured; its own colours and movements pass `Output`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    @property
    def file(self) -> IO[str]:
        found: Any = super().file
        return cast(IO[str], found.styled if isinstance(found, Output) else found)

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(shown(text), **options)

    def render(self, *arguments: Any, **options: Any) -> Iterable[Segment]:
        for segment in super().render(*arguments, **options):
            raw = not segment.control and CONTROL.search(segment.text)
            yield Segment(shown(segment.text), segment.style) if raw else segment

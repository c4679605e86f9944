"""Numbers as people write them: with units, separators of thousands and decimal commas."""

from __future__ import annotations

import re
from dataclasses import dataclass

UNIT = r"(?:US|CA|AU)?\$|[%‰€£¥₹]|USD|EUR|GBP|CHF|JPY"
WRITTEN = re.compile(  # a number as people write it: with its unit and marks between its digits
    rf"(?P<sign>[+-]?)\s*(?P<front>{UNIT})?\s*(?P<digits>[0-9](?:[.,'’\s]?[0-9])*)\s*(?P<behind>{UNIT})?"
)


@dataclass(frozen=True)
class Written:
    """A number that is not written as one."""

    values: list[str]  # as it could be meant, one or two
    unit: str  # beside it, "" for none
    mark: str  # between its digits, the last of them
    thousands: bool  # whether there are marks between those

    def line(self) -> str:
        """What is in the way, and how it is written instead."""
        if len(self.values) > 1:
            mark = {",": "comma", ".": "point"}[self.mark]
            meant = f"thousands ({self.values[0]}) or decimals ({self.values[1]})"
            unit = f", without {self.unit!r}" if self.unit else ""
            return f"its {mark} separates {meant}: write one of them{unit}"
        if not self.unit and not self.thousands:
            return f"a decimal point is needed, not a comma: {self.values[0]}"
        gone = [repr(self.unit)] * bool(self.unit) + ["separators of thousands"] * self.thousands
        point = ", with a decimal point," if self.mark == "," and "." in self.values[0] else ""
        return f"without {' and '.join(gone)}{point} it is {self.values[0]}"


def written(text: str) -> Written | None:
    """A number with a unit, separators of thousands or a decimal comma; None for any other text.

    Three digits behind a single comma may be either, but no amount of money has as many decimals; several
    marks of one kind are between thousands.
    """
    found = WRITTEN.fullmatch(text.strip())
    if found is None:
        return None
    unit = found["front"] or found["behind"] or ""
    parts, marks = re.split(r"[^0-9]", found["digits"]), re.findall(r"[^0-9]", found["digits"])
    mark, kinds, single = marks[-1] if marks else "", len({*marks}), len(marks) == 1
    money = unit not in ("", "%", "‰")
    values = []
    if kinds < 2 and in_thousands(parts) and (mark != "." or money or not single):
        values.append("".join(parts))
    if single and mark in ",." and not (values and mark == "," and money):
        values.append(".".join(parts))
    if kinds == 2 and marks.count(mark) == 1 and mark in ",." and in_thousands(parts[:-1]):
        values.append("".join(parts[:-1]) + "." + parts[-1])
    if not values and unit and not marks:
        values = parts
    if not values or not (unit or {*marks} - {"."} or len(marks) > 1):
        return None
    sign = found["sign"].replace("+", "")
    thousands = len(marks) > 1 or mark not in ",." or len(values[0]) == len("".join(parts))
    return Written([sign + value for value in values], unit, mark, bool(marks) and thousands)


def in_thousands(parts: list[str]) -> bool:
    """Whether digits are in groups of three, or as in India of two and the last of three."""
    first, *rest = parts
    return (
        1 <= len(first) <= 3
        and not (first[0] == "0" and rest)
        and all(len(part) in (2, 3) for part in rest)
        and (not rest or len(rest[-1]) == 3)
    )

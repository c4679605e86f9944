"""What a job of several processes ends with: of what happened in each, what came first."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

from ftrun.errors import Interrupted, UserError, counted, told

KILLED = 9  # the signal that the system sends when memory is exhausted


class Lost(Interrupted):
    """Processes have ended without a word, as one does that is killed."""

    @classmethod
    def of(cls, ranks: list[int], size: int) -> Lost:
        """Of these processes."""
        which = f"rank{'s' if len(ranks) > 1 else ''} {' and '.join(map(str, ranks))}"
        was = "were" if len(ranks) > 1 else "was"
        return cls(
            f"{which} of {counted(size, 'process', 'processes')} {was} killed (as by signal {KILLED}, which"
            " the system sends when memory is exhausted)",
            KILLED,
        )


@dataclass
class Outcome:
    """How a job ended in one process."""

    order: int  # among those in which it failed, from 1 on
    error: UserError | Interrupted | None
    text: str
    bug: bool

    @classmethod
    def of(cls, order: int, error: BaseException | None) -> Outcome:
        """With an error that can be pickled."""
        if error is None:
            return cls(0, None, "", False)
        if isinstance(error, KeyboardInterrupt) and not isinstance(error, Interrupted):
            error = Interrupted("interrupted", 2)
        if not isinstance(error, UserError | Interrupted):
            text = f"{type(error).__name__}: {told(error)}"
            return cls(order, UserError(f"{text}; see its traceback"), text, True)
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # of a strategy or task of one's own
            error = UserError(str(error))
        return cls(order, error, str(error), False)


def verdict(
    known: dict[int, Outcome], missing: list[int], rank: int, own: BaseException | None
) -> tuple[BaseException | None, bool]:
    """What all raise, None where all is well; and whether this process is the one that it happened in.

    A process that is gone counts before what the others say, which may be of its going; else the first
    failure, which the others followed. What several say alike is said by the lowest rank of them.
    """
    size = len(known) + len(missing)
    if missing:
        return Lost.of(missing, size), False
    failed = {peer: outcome for peer, outcome in known.items() if outcome.error is not None}
    if not failed:
        return None, False
    first = min(failed.values(), key=lambda outcome: outcome.order)
    owner = min(peer for peer, outcome in failed.items() if outcome.text == first.text)
    if own is not None and failed[rank].text == first.text:
        return own, owner == rank
    error = failed[owner].error
    assert error is not None
    error.args = (f"rank {owner} of {counted(size, 'process', 'processes')}: {error}", *error.args[1:])
    return error, False

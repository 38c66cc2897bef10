"""Which shared words hand values from one task to another?

Of the words that two tasks touch and one writes, many are stacks that threads have used one after
the other: each task reads there only what it has written itself.  Their order may still
matter, so they stay choice points; but a strategy that draws words at random should draw
others most of the time.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from uvm_async.race.model import Event

__all__ = ["Handovers"]

SHARE = 0.9
"""Of the draws that are among such words, if there are any."""
MAX_WORDS = 4096


class Handovers:
    """Words of which a task has read what another wrote."""

    def __init__(self) -> None:
        self._words: set[int] = set()
        self._authors: dict[int, int] = {}
        """Word -> the task that wrote it last in this execution."""

    def begin(self) -> None:
        """A new execution."""
        self._authors.clear()

    def saw(self, event: Event) -> None:
        """`event`, an access, has happened."""
        for word in event.objects:
            foreign = self._authors.get(word, event.task) != event.task
            if foreign and event.reads and len(self._words) < MAX_WORDS:
                self._words.add(word)
            if event.writes and (word in self._authors or len(self._authors) < MAX_WORDS):
                self._authors[word] = event.task

    def among(self, words: Sequence[int], rng: random.Random) -> Sequence[int]:
        """From which of `words` to draw this time: mostly from those that hand values over."""
        if rng.random() >= SHARE:
            return words
        return [word for word in words if word in self._words] or words

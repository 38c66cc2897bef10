"""The one source of randomness: seeded, or the host's.

Linux: drivers/char/random.c.  Whatever chooses at random (getrandom, AT_RANDOM,
uuids) asks here, so that a seeded machine repeats itself.
"""

from __future__ import annotations

import os
import random

from uvm_async.state import Entity

__all__ = ["Entropy"]


class Entropy(Entity):
    """Random bytes; a function of `seed` if there is one."""

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed
        self._random = random.Random(seed) if seed is not None else None

    def bytes(self, count: int) -> bytes:
        """`count` random bytes."""
        if self._random is None:
            return os.urandom(count)
        return self._random.randbytes(count)

"""Calls that the API refused: when each is made again, and how often and how long it was in vain.

A call has a key, of its Job or of all that wait for the same. Pure but for the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

#: Seconds that a refused call waits at most before it is made again.
LONGEST_WAIT_S = 60.0


@dataclass
class _Refusal:
    since: float
    until: float
    times: int = 1
    words: str = ""


@dataclass
class Refusals:
    """Back-off by key: `first_s` seconds after the first refusal, twice as many after each more."""

    first_s: float
    clock: Callable[[], float] = time.monotonic
    _found: dict[Hashable, _Refusal] = field(default_factory=dict, init=False)

    def due(self, key: Hashable) -> bool:
        """Whether it is time to make the call."""
        found = self._found.get(key)
        return found is None or self.clock() >= found.until

    def times(self, key: Hashable) -> int:
        """How often it was refused."""
        found = self._found.get(key)
        return found.times if found else 0

    def note(self, key: Hashable, words: str) -> bool:
        """It was refused once more; whether with other words than before."""
        now = self.clock()
        found = self._found.setdefault(key, _Refusal(now, now, 0))
        found.times += 1
        found.until = now + min(LONGEST_WAIT_S, self.first_s * 2 ** min(found.times - 1, 20))
        found.words, before = words, found.words
        return words != before

    def seconds(self, key: Hashable) -> float:
        """Seconds since it was first refused."""
        found = self._found.get(key)
        return self.clock() - found.since if found else 0.0

    def forget(self, key: Hashable) -> None:
        """It was not refused, or what refused it has changed."""
        self._found.pop(key, None)

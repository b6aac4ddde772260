"""Which faults strike together, how long, and what they aim at: all of it from one seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

AT_ONCE = 3
# All three of a round have begun before the first can end.
_LATEST_S, _SHORTEST_S = 0.5, 0.7


@dataclass(frozen=True)
class Strike:
    """One fault: it begins ``after_s`` seconds into its round, and lasts; its own choices follow from ``seed``."""

    fault: str
    after_s: float
    lasts_s: float
    seed: int


def rounds(seed: int, groups: Mapping[str, str], *, longest_s: float) -> Iterator[tuple[Strike, ...]]:
    """Rounds of three faults without end. ``groups``: what each fault befalls; no two of a round befall the same.

    The faults are dealt like cards, so that each comes as often as any other.
    """
    chance = random.Random(seed)
    deck: list[str] = []
    while True:
        drawn: list[str] = []
        while len(drawn) < AT_ONCE:
            taken = {groups[name] for name in drawn}
            fitting = [name for name in deck if groups[name] not in taken]
            if not fitting:
                deck += chance.sample(sorted(groups), len(groups))
                continue
            drawn.append(fitting[0])
            deck.remove(fitting[0])
        yield tuple(
            Strike(name, _LATEST_S * chance.random(), chance.uniform(_SHORTEST_S, longest_s), chance.randrange(2**32))
            for name in drawn
        )

"""A busy bot: ``python -m tests.faults.soak.bot PIPE DIRECTORY RING_DIR SERVICE FIRST RING_BYTES``, until SIGTERM."""

from __future__ import annotations

import itertools
import random
import signal
import sys
import time

from emitter import AuditLog

from ..oracle import Witness

# About 150 records a second, and now and then many at once. Small segments, so that rotation never stops.
_PAUSE_S = 0.006
_BURST, _CHANCE_OF_BURST = 200, 0.002
_SEGMENT_BYTES = 64 * 1024
_LOOK_EVERY = 50


def main(pipe: int, directory: str, ring_dir: str, service: str, first: int, ring_bytes: int) -> None:
    told: list[int] = []  # no Event: its set() may wait for the lock that the wait() it interrupted holds
    signal.signal(signal.SIGTERM, lambda signum, _: told.append(signum))
    witness, chance, numbers = Witness(pipe), random.Random(first), itertools.count(first)
    with AuditLog(
        directory, service=service, ring_dir=ring_dir, ring_bytes=ring_bytes, segment_max_bytes=_SEGMENT_BYTES,
        fsync_interval_ms=200,
    ) as audit:  # fmt: skip
        while not told:
            time.sleep(_PAUSE_S)
            for _ in range(_BURST if chance.random() < _CHANCE_OF_BURST else 1):
                number = next(numbers)
                witness.emit(audit, number)
                if number % _LOOK_EVERY == 0:
                    witness.look(audit)
    witness.look(audit)


if __name__ == "__main__":
    _, pipe_, directory_, ring_dir_, service_, first_, ring_bytes_ = sys.argv
    main(int(pipe_), directory_, ring_dir_, service_, int(first_), int(ring_bytes_))

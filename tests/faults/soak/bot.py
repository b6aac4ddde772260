"""A busy bot: ``python -m tests.faults.soak.bot PIPE DIRECTORY RING_DIR SERVICE FIRST RING_BYTES``, until SIGTERM."""

from __future__ import annotations

import itertools
import random
import signal
import sys
import time
import warnings

from emitter import AuditLog, DirectoryError

from ..oracle import Witness

# About 150 records a second, and now and then many at once. Small segments, so that rotation never stops.
_PAUSE_S = 0.006
_BURST, _CHANCE_OF_BURST = 200, 0.002
_SEGMENT_BYTES = 64 * 1024
_LOOK_EVERY = 50


def main(pipe: int, directory: str, ring_dir: str, service: str, first: int, ring_bytes: int) -> None:
    told: list[int] = []  # no Event: its set() may wait for the lock that the wait() it interrupted holds
    signal.signal(signal.SIGTERM, lambda signum, _: told.append(signum))
    # What a person is told of a start on a failing disk.
    warnings.filterwarnings("ignore", message="an earlier stream is not finished")
    while not told:
        try:
            audit = AuditLog(
                directory, service=service, ring_dir=ring_dir, ring_bytes=ring_bytes, segment_max_bytes=_SEGMENT_BYTES,
                fsync_interval_ms=200,
            )  # fmt: skip
        except DirectoryError:  # no bot has begun, and who looks after it starts it again
            time.sleep(_PAUSE_S)
            continue
        _log(audit, Witness(pipe), first, told)


def _log(audit: AuditLog, witness: Witness, first: int, told: list[int]) -> None:
    chance, numbers = random.Random(first), itertools.count(first)
    with audit:
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

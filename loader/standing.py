"""What a ``watch`` has done and how it stands: one source of numbers, for the person and for Prometheus."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping

from .errors import TransientError, UnknownOutcome
from .lag import Lag
from .rules import Rule
from .totals import Totals

# Upper ends in seconds: from one line in the live tail to a batch that had to wait for a lock.
BATCH_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# Names that PostgreSQL gives its classes of SQLSTATEs, as far as they are tried again after (see loader.errors).
_CLASSES = {
    "08": "connection_exception",
    "40": "transaction_rollback",
    "53": "insufficient_resources",
    "55": "object_not_in_prerequisite_state",
    "57": "operator_intervention",
    "58": "system_error",
}
_NO_ANSWER = "connection_exception"
_UNKNOWN_OUTCOME = "unknown_outcome"


class Standing:
    """Written by the thread of the watch alone. Others may read: what is no plain number is replaced, never changed."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        # A rule that nobody broke yet counts 0: what appears only with its first line is no increase to Prometheus.
        self._ended = Totals(reasons={(rule.severity, rule.name): 0 for rule in rules})
        self._recovery_problems: Mapping[str, str] = {}
        self._batch_since = 0.0
        self.totals = self._ended
        self.problems: Mapping[str, str] = {}
        self.lag = Lag()
        self.connected = False
        self.loaded_at = 0.0  # seconds since 1970; 0: not yet
        self.batches: tuple[int, ...] = (0,) * (len(BATCH_SECONDS) + 1)  # by BATCH_SECONDS, the last: longer ones
        self.batch_seconds = 0.0
        self.errors: Mapping[str, int] = dict.fromkeys((*_CLASSES.values(), _UNKNOWN_OUTCOME), 0)
        self.failed_at: Mapping[str, float] = {}

    def progressed(self, present: Totals, *, committed: bool) -> None:
        """The loader has looked at the directory, or committed one more batch; ``present``: what this take brought."""
        now = time.monotonic()
        if committed:
            took = now - self._batch_since
            at = bisect_left(BATCH_SECONDS, took)
            self.batches = tuple(count + (n == at) for n, count in enumerate(self.batches))
            self.batch_seconds += took
            self.loaded_at = time.time()
        self._batch_since = now
        self.totals = self._ended + present

    def took(self, totals: Totals, *, recovered: bool) -> None:
        """A take has ended. ``recovered``: it has looked for dead streams too, so that all problems are in it."""
        self.totals = self._ended = self._ended + totals
        if recovered:
            self._recovery_problems = totals.problems
        self.problems = {**self._recovery_problems, **totals.problems}

    def failed(self, error: TransientError) -> None:
        """The database was away or busy; it is tried again."""
        kind = _CLASSES.get((error.sqlstate or "")[:2], _NO_ANSWER)
        if isinstance(error, UnknownOutcome):
            kind = _UNKNOWN_OUTCOME
        self.errors = {**self.errors, kind: self.errors[kind] + 1}
        self.failed_at = {**self.failed_at, kind: time.time()}

"""Whether the suite sees a breakage: green without it, and red with it for a test's own reason."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .breakage import Breakage
from .copied import Copy
from .suite import Outcome, Run, Suite

SEEN, SURVIVED, UNPROVED = "seen", "survived", "unproved"
# A run that is stuck in a place where no test's limit counts.
_LIMIT_S, _ALL_LIMIT_S = 300.0, 3600.0
_FAILED = 1  # pytest's exit code for tests that failed
# A product that is no program any more is seen by anybody, and shows nothing.
_NO_PROGRAM = re.compile(r"(?:E\s+)?(?:ImportError|ModuleNotFoundError|SyntaxError|IndentationError|NameError)\b")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one breakage. ``test`` saw it, and ``says`` so; or ``says`` why nothing is proved."""

    breakage: Breakage
    result: str
    seconds: float
    test: str = ""
    says: str = ""


class Trial:
    """Tries breakages one after the other in one copy."""

    def __init__(self, copy: Copy, suite: Suite, *, whole: bool) -> None:
        """``whole``: each has to be seen by all tests together, not by those that it names."""
        self._copy, self._suite, self._whole = copy, suite, whole
        self._before: dict[str, Outcome] = {}  # without any breakage, by test

    def unbroken(self, breakages: list[Breakage]) -> tuple[Outcome, ...]:
        """Run without any breakage what is run with them, to be done first; what became of each test.

        One that is red is run once more by itself: a test that a busy machine spoilt would spoil the score.
        """
        outcomes = self._suite.run(self._tests(*breakages), _ALL_LIMIT_S).outcomes
        if failed := [outcome.test for outcome in outcomes if outcome.outcome == "failed"]:
            outcomes += self._suite.run(failed, _ALL_LIMIT_S).outcomes
        self._before = {outcome.test: outcome for outcome in outcomes}
        return tuple(self._before.values())

    def of(self, breakage: Breakage) -> Verdict:
        """Break it, and look. Errors: :class:`~tests.breakages.breakage.Stale`."""
        if doubt := self._doubt(breakage):
            return Verdict(breakage, UNPROVED, 0.0, says=doubt)
        limit_s = _ALL_LIMIT_S if self._whole else _LIMIT_S
        with self._copy.broken(breakage):
            run = self._suite.run(self._tests(breakage), limit_s, first_failure=True, without=self._of("failed"))
        result, test, says = self._judged(run)
        return Verdict(breakage, result, run.seconds, test, says)

    def _judged(self, run: Run) -> tuple[str, str, str]:
        """The result, the test that is red, and its words or the reason."""
        if run.code is None:
            return UNPROVED, "", "the tests did not end, and no limit of theirs said so"
        if run.of("uncollected") or run.code not in (0, _FAILED):
            return UNPROVED, "", f"the tests could not be run: {_last(run)}"
        green = self._of("passed")
        red = next((failed for failed in run.of("failed") if failed.test in green), None)
        if red is None:
            return SURVIVED, "", ""
        if _NO_PROGRAM.match(red.says):
            return UNPROVED, red.test, f"it is no program any more: {red.says}"
        return SEEN, red.test, red.says

    def _tests(self, *breakages: Breakage) -> tuple[str, ...]:
        return () if self._whole else tuple(dict.fromkeys(path for one in breakages for path in one.paths))

    def _doubt(self, breakage: Breakage) -> str:
        """Why a red test would say nothing."""
        if self._whole:
            return ""
        failed = [test for test in self._of("failed") if _among(test, breakage.paths)]
        if failed:
            return f"red without it: {failed[0]}"
        return (
            "" if any(_among(test, breakage.paths) for test in self._of("passed")) else "its tests cannot be run here"
        )

    def _of(self, outcome: str) -> list[str]:
        return [test for test, was in self._before.items() if was.outcome == outcome]


def plain_name(test: str) -> str:
    """``unit/test_ring.py::test_x``, as ``seen_by`` has it, of pytest's ``tests/unit/test_ring.py::test_x[1]``."""
    return test.removeprefix("tests/").partition("[")[0]


def _among(test: str, paths: tuple[str, ...]) -> bool:
    return any(test == path or test.startswith((f"{path}[", f"{path}::")) for path in paths)


def _last(run: Run) -> str:
    uncollected: tuple[Outcome, ...] = run.of("uncollected")
    words = uncollected[0].says if uncollected else run.printed
    return words.strip().splitlines()[-1] if words.strip() else f"exit code {run.code}"

"""``make test-breakages``: the breakages of the catalogue one after the other, and the score."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from loader.show import console, errors_console
from loader.statements import StatementError
from loader.text import count, one_line

from .breakage import Breakage, Stale
from .catalogue import ALL
from .copied import Copy
from .page import write_page
from .show import Score, as_table
from .suite import Suite
from .verdict import SEEN, Trial

ROOT = Path(__file__).parents[2]
_WHAT = "Break the product in each of the ways of the catalogue, and demand that the tests go red."


def main() -> int:
    """The exit code: 1 where a breakage is not seen, 2 where one does not fit the tree any more."""
    for signum in (signal.SIGINT, signal.SIGTERM):  # also in a script's background: what was started is ended
        signal.signal(signum, signal.default_int_handler)
    asked = _arguments()
    chosen = [one for one in ALL if not asked.name or any(part in one.name for part in asked.name)]
    if not chosen:
        print(f"no breakage has {' or '.join(map(repr, asked.name))} in its name; --list shows all", file=sys.stderr)
        return 2
    if asked.list:
        for breakage in chosen:
            print(f"{breakage.name}: {breakage.breaks}")
        return 0
    try:
        score = _try(chosen, whole=asked.whole)
    except KeyboardInterrupt:
        return 130
    except (Stale, StatementError, SyntaxError, OSError, subprocess.SubprocessError) as error:
        print(f"breakages: {error}", file=sys.stderr)
        return 2
    if asked.json:
        print(json.dumps(score.as_json()))
    else:
        console(80).print(as_table(score.verdicts))
        console(80).print(f"{score.seen} of {count(len(score.verdicts), 'breakage')} seen, in {score.took}.")
    if not asked.whole:
        write_page(ROOT, ALL, score.verdicts, score.took if len(chosen) == len(ALL) else None)
    return 0 if score.seen == len(score.verdicts) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make test-breakages", description=_WHAT)
    parser.add_argument("name", nargs="*", help="only those with this in their names; else all")
    parser.add_argument("--whole", action="store_true", help="ask all tests each time, not those that should see it")
    parser.add_argument("--list", action="store_true", help="list the breakages, and try none")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser.parse_args()


def _try(chosen: list[Breakage], *, whole: bool) -> Score:
    for breakage in chosen:  # before minutes are spent
        breakage.require_sound(ROOT)
    say, started = partial(errors_console().print, markup=False, soft_wrap=True), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tradetrail-breakages-") as folder:
        copy = Copy(ROOT, Path(folder) / "tree")
        trial = Trial(copy, Suite(copy.folder, Path(folder)), whole=whole)
        say("the tests without any breakage ...")
        before = trial.unbroken(chosen)
        for test in before:
            if test.outcome not in ("passed", "skipped"):
                say(one_line(f"{test.outcome} without any breakage: {test.test}: {test.says}"))
        verdicts = []
        for number, breakage in enumerate(chosen, 1):
            verdict = trial.of(breakage)
            verdicts.append(verdict)
            why = "" if verdict.result == SEEN else f": {one_line(verdict.says) or 'no test is red'}"
            say(f"{number}/{len(chosen)} {breakage.name} {verdict.result} ({verdict.seconds:.0f} s){why}")
    green = sum(test.outcome == "passed" for test in before)
    return Score(tuple(verdicts), green, time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main())

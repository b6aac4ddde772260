"""``python -m tests.faults.soak``."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest

from ...bots import tmpfs_folder
from ..siege import seed as chosen_seed
from . import __doc__ as about
from .run import soak
from .show import show

_QUICK_MINUTES = 0.25


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.soak",
        description=(about or "").partition("\n\n")[0].replace("`", ""),
        epilog="Exit code 0: all invariants held; 1: one did not, or too little came about; 3: this machine cannot.",
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="how long (20)")
    parser.add_argument("--quick", action="store_true", help="a quarter of a minute")
    parser.add_argument("--seed", type=int, help="the same faults again (also TRADETRAIL_TEST_SEED)")
    parser.add_argument("--dir", type=Path, help="a folder to work in, which stays; else a temporary one")
    parser.add_argument("--json", action="store_true", help="the outcome as one object on stdout")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    seed = given.seed if given.seed is not None else chosen_seed()
    minutes = _QUICK_MINUTES if given.quick else given.minutes
    if given.dir:
        given.dir.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="tradetrail-soak-", dir=given.dir))
    began = time.monotonic()

    def tell(words: str) -> None:
        print(f"{(time.monotonic() - began) / 60:5.1f} min {words}", file=sys.stderr, flush=True)

    tell(f"seed {seed}, for {minutes:g} minutes")
    outcome = None
    try:
        with tmpfs_folder() as ring_dir:
            outcome = soak(place, ring_dir, seed, minutes * 60, tell)
    except pytest.skip.Exception as missing:
        print(f"a soak cannot be run here: {missing}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        if given.dir or (outcome and outcome.violation):
            print(f"the files are in {place}", file=sys.stderr)
        else:
            shutil.rmtree(place)
    if given.json:
        print(json.dumps(outcome.as_json()))
    else:
        show(outcome)
    return 0 if outcome.violation is None else 1


if __name__ == "__main__":
    os.environ.pop("TRADETRAIL_DSN", None)
    sys.exit(main())

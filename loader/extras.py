"""How to get what an extra of this package brings, for errors that say so; knows nothing but the standard library."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


def installing(extra: str, root: Path = _ROOT) -> str:
    """The command that installs an extra, to be run anywhere: from the checkout where this is one, else by name."""
    what = f"tradetrail[{extra}]"
    if (root / "pyproject.toml").is_file():  # a wheel has none
        what = f"{root}[{extra}]"
        return f"{_pip()} install -e {shlex.quote(what)}"
    return f"{_pip()} install {shlex.quote(what)}"


def _pip() -> str:
    """The pip of this interpreter; where another one would be found by the name alone, with its path."""
    beside = Path(sys.executable).with_name("pip")
    return str(beside) if beside.exists() and shutil.which("pip") != str(beside) else "pip"

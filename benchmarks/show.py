"""The figures of ``benchmarks.emit`` as tables for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

from .contestants import CONTESTANTS
from .figures import NONE, OURS, QUANTILES

_FIGURES = (*QUANTILES, "max")
_MIB = 1024 * 1024


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Says on a terminal what is measured just now."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("starting") as status:
        yield status.update


def number(value: float | None, digits: int = 1) -> str:
    """For a cell; what is not known is a dash."""
    return "-" if value is None else f"{value:,.{digits}f}"


def title(name: str) -> str:
    shown = CONTESTANTS[name].title
    return f"[bold]{shown}[/bold]" if name == OURS else shown


def table(heading: str, *columns: str) -> Table:
    made = Table(title=heading, title_justify="left", title_style="bold", min_width=60)
    made.add_column("")
    for column in columns:
        made.add_column(column, justify="right")
    return made


def calls(case: str, found: Mapping[str, Any]) -> Table:
    """Microseconds per call, ours as a part of each rival's, and what the design wants of it."""
    made = table(
        f"One call, {case} (µs)",
        "calls", *_FIGURES, *(f"ours : {figure}" for figure in _FIGURES), "wanted",
    )  # fmt: skip
    for name, summary in found["microseconds"][case].items():
        ratio = found["ratios"][case].get(name, {}) if name != NONE else {}
        targets = [target for target in found["targets"][case] if target["rival"] == name]
        made.add_row(
            title(name),
            number(summary["calls"], 0),
            *(number(summary.get(figure)) for figure in _FIGURES),
            *(number(ratio.get(figure), 3) for figure in _FIGURES),
            ", ".join(verdict(target) for target in targets),
        )
    return made


def verdict(target: Mapping[str, Any]) -> str:
    colour, word = ("green", "met") if target["met"] else ("red", "missed")
    return f"{target['quantile']} <= {target['at_most']:g} [{colour}]{word}[/{colour}]"


def loop(found: Mapping[str, Any]) -> Table:
    """How late the loop's timer was, for each rate beside each other."""
    rates = list(found["loop_late_microseconds"])
    heads = [f"{'idle' if rate == '0' else rate + '/s'} {figure}" for rate in rates for figure in ("p50", "p99")]
    made = table("An asyncio loop's 1 ms timer is late by (µs), records made in the loop", *heads, "made at most (/s)")
    names = dict.fromkeys(name for rate in rates for name in found["loop_late_microseconds"][rate])
    for name in names:
        each = [found["loop_late_microseconds"][rate].get(name, {}) for rate in rates]
        cells = [number(summary.get(figure)) for summary in each for figure in ("p50", "p99")]
        made.add_row(title(name), *cells, number(max(s.get("made_per_s", 0.0) for s in each), 0))
    return made


def memory(found: Mapping[str, Any]) -> Table:
    made = table(
        "Memory (MiB more; a ring is there from the start), calls flat out",
        "calls",
        "until open",
        "at the peak",
        "stays",
        "records lost",
    )
    for name, grown in found["memory_bytes"].items():
        cells = (number(grown[what] / _MIB) for what in ("open", "peak", "stays"))
        lost = None if grown["found"] is None else grown["calls"] - grown["found"]
        made.add_row(title(name), number(grown["calls"], 0), *cells, number(lost, 0))
    return made


def stalled(found: Mapping[str, Any]) -> Table:
    made = table(
        f"Disk stalled for {found['effort']['stall_seconds']:g} s (µs per call)",
        "p99.9 before", "p50 stalled", "p99.9 stalled", "max stalled", "records lost", "how",
    )  # fmt: skip
    for name, row in found["disk_stalled"].items():
        before, during = row.get("before", {}), row.get("during", {})
        lost = None if row.get("found") is None else row["given"] - row["found"]
        made.add_row(
            title(name),
            number(before.get("p99.9")),
            *(number(during.get(figure)) for figure in ("p50", "p99.9", "max")),
            number(lost, 0),
            row["how"],
        )
    return made


def killed(found: Mapping[str, Any]) -> Table:
    made = table("Left after kill -9", "calls returned", "records found", "lost", "most lost at once")
    for name, row in found["killed"].items():
        cells = (row["returned"], row["found"], row["returned"] - row["found"], row["calls"] - row["least_found"])
        made.add_row(title(name), *(number(cell, 0) for cell in cells))
    return made


def show_aims(console: Console, aims: Iterable[Mapping[str, Any]]) -> None:
    for aim in aims:
        colour, word = ("green", "met") if aim["met"] else ("red", "missed")
        console.print(
            f"{aim['what']}: {aim['figure']:.2f}, wanted at most {aim['at_most']:g}: [{colour}]{word}[/{colour}]"
        )


def show(found: Mapping[str, Any]) -> None:
    """All tables, and what there is to know about them."""
    console = Console()
    if not console.is_terminal:
        console.width = 180
    for case in found["microseconds"]:
        console.print(calls(case, found))
    for made in (loop, memory, stalled, killed):
        console.print(made(found))
    show_aims(console, found["aims"])
    for name, why in found["missing"].items():
        console.print(f"Not measured: {CONTESTANTS[name].title}: {why}", markup=False)
    machine = found["machine"]
    console.print(
        f"{found['fields']} fields; {machine['cpus']} CPUs, load {found['load_average']:.1f}, "
        f"Python {machine['python']}, Linux {machine['kernel']}; {found['seconds']:.0f} s. "
        f"The row {CONTESTANTS[NONE].title!r} is the timer and an empty call; it is not taken off the others.",
        markup=False,
    )

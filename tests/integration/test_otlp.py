"""``tradetrail export --format otlp``: what is written comes back through OpenTelemetry's own classes."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import random
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.json_format import Parse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData

from emitter import AuditLog, __version__
from emitter.segments import Void, new_stream
from loader.cli import run
from loader.errors import UsageError
from loader.export import Exported, export_otlp
from tests.command import SCRIPT, answer, emit, environment, one_line, record, segment, tradetrail
from tests.documents import Page
from tests.lines import line as written
from tests.lines import segment as closed_segment

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# -- the way back --


def parsed(line: str) -> LogsData:
    """A line as the official classes take it.

    OTLP writes ids in hex, where protobuf's own JSON has base64 for bytes: the one place where they differ. Any member
    that the classes do not know is an error.
    """
    data = json.loads(line, parse_float=Decimal)
    for resource in data["resourceLogs"]:
        for scope in resource["scopeLogs"]:
            for found in scope["logRecords"]:
                for name in {"traceId", "spanId"} & found.keys():
                    found[name] = base64.b64encode(bytes.fromhex(found[name])).decode()
    return Parse(json.dumps(data, default=float), LogsData(), max_recursion_depth=1000)


def plain(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case None:
            return None
        case "double_value":
            return Decimal(repr(value.double_value))
        case "array_value":
            return [plain(item) for item in value.array_value.values]
        case "kvlist_value":
            return mapping(value.kvlist_value.values)
        case kind:
            return getattr(value, kind)


def mapping(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    pairs = list(pairs)
    found = {pair.key: plain(pair.value) for pair in pairs}
    assert len(found) == len(pairs)
    return found


def restored(found: LogRecord, resource: dict[str, Any]) -> dict[str, Any]:
    """A log record as the line it was made of; times in nanoseconds, floats as decimals."""
    attributes = mapping(found.attributes)
    line: dict[str, Any] = {
        "stream": resource["tradetrail.stream"],
        "timestamp": found.time_unix_nano,
        "observed_timestamp": found.observed_time_unix_nano,
        "event_name": found.event_name,
    }
    if uid := attributes.pop("log.record.uid", None):
        line["seq"] = attributes.pop("tradetrail.seq")
        assert uid == f"{line['stream']}:{line['seq']}"
    numbers = attributes.pop("tradetrail.numbers", [])
    said = {
        "severity_text": found.severity_text,
        "severity_number": found.severity_number,
        "trace_id": found.trace_id.hex(),
        "span_id": found.span_id.hex(),
    }
    line |= {name: value for name, value in said.items() if value}
    fields = line["attributes"] = {}
    if found.HasField("body"):
        fields["body"] = plain(found.body)
    if found.flags:
        fields["trace_flags"] = found.flags
    for name, value in attributes.items():
        if name.startswith("tradetrail.field."):
            fields[name.removeprefix("tradetrail.field.")] = value
        elif name.startswith("tradetrail."):
            line[name.removeprefix("tradetrail.")] = value
        else:
            fields[name] = value
    for pointer in numbers:
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
        place: Any = line
        for part in way:
            place = place[int(part) if isinstance(place, list) else part]
        last = int(last) if isinstance(place, list) else last
        place[last] = json.loads(place[last], parse_float=Decimal)
    return line


def read(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        (resource,) = parsed(line).resource_logs
        (scope,) = resource.scope_logs
        assert (scope.scope.name, scope.scope.version) == ("tradetrail", __version__)
        attributes = mapping(resource.resource.attributes)
        assert attributes["service.name"]
        assert len(scope.log_records) > 0
        for found in scope.log_records:
            yield restored(found, attributes)


def nanoseconds(text: str) -> int:
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = (datetime.fromisoformat(whole).replace(tzinfo=UTC) - EPOCH) // timedelta(seconds=1)
    return seconds * 10**9 + int(fraction.ljust(9, "0"))


def expected(directory: Path) -> list[dict[str, Any]]:
    """The lines of a log, read without any of our own code, in the form of :func:`restored`."""
    found = []
    for path in sorted(directory.glob("*.jsonl")):
        for raw in path.read_bytes().splitlines():
            line = json.loads(raw, parse_float=Decimal)
            if "seq" in line or line["event_name"] == "audit.lost":
                line["timestamp"] = nanoseconds(line["timestamp"])
                observed = line.get("observed_timestamp")
                line["observed_timestamp"] = nanoseconds(observed) if observed else line["timestamp"]
                found.append(line)
    return found


def kinds(value: Any) -> Any:
    """The value with its types, since 1 == 1.0 == True."""
    if isinstance(value, dict):
        return {name: kinds(item) for name, item in value.items()}
    if isinstance(value, list):
        return [kinds(item) for item in value]
    return type(value).__name__, value


def exported(directory: Path, **options: Any) -> tuple[Exported, list[dict[str, Any]]]:
    to = io.BytesIO()
    done = export_otlp(directory, to, **options)
    lines = to.getvalue().decode().splitlines()
    assert (done.lines, done.bytes) == (len(lines), len(to.getvalue()))
    assert all(len(line) < 1024 * 1024 for line in lines)
    return done, list(read(lines))


# -- round trips --


def a_value(chance: random.Random, depth: int = 0) -> Any:
    made: list[Callable[[], Any]] = [
        lambda: chance.choice([True, False, "", "text", "ünïcödé ☃ \U0001f600", '"\\\n\t', "55", "-0.5"]),
        lambda: chance.choice([0, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**64 - 1, 2**64, 10**40]),
        lambda: chance.choice([0.0, -0.0, 94.7, 0.1 + 0.2, 1e22, 1e-7, 5e-324, 1.7976931348623157e308, 94.7 * 2.1118]),
        lambda: Decimal(chance.choice(["2.1118", "0.00000001", "12345678901234567890.123456789", "NaN", "1E+5"])),
        lambda: chance.choice([float("nan"), float("inf"), datetime(2026, 11, 22, tzinfo=UTC), b"bytes", {1, 2}]),
        lambda: chance.random(),
        lambda: [a_value(chance, depth + 1) for _ in range(chance.randrange(4))] if depth < 4 else [],
        lambda: {f"k{n}": a_value(chance, depth + 1) for n in range(chance.randrange(4))} if depth < 4 else {},
        lambda: [None, {"null": None}],
    ]
    return chance.choice(made)()


def a_record(audit: AuditLog, chance: random.Random, n: int) -> None:
    fields = {f"f{at}": a_value(chance) for at in range(chance.randrange(5))}
    if n % 7 == 0:
        fields["timestamp"] = datetime(2024, 5, 1, tzinfo=UTC) + timedelta(microseconds=chance.randrange(10**13))
    if n % 11 == 0:
        fields |= {"trace_id": f"{chance.randrange(1, 2**128):032x}", "span_id": f"{chance.randrange(1, 2**64):016x}"}
    if n % 13 == 0:
        fields |= {"trace_id": chance.choice(["mine", "0" * 32, TRACE[1:]])}
    if n % 17 == 0:
        fields |= {"tradetrail.seq": n, "log.record.uid": "mine", "tradetrail.field.x": n, "body": a_value(chance)}
    if n % 19 == 0:
        fields |= {"trace_flags": chance.choice([0, 1, 255, 256, True, "1", 1.0])}
    if n % 501 == 0:
        fields |= {"long": "x" * 70_000}
    match n % 4:
        case 0:
            audit.order(exchange="bybit", symbol="MNTUSDT", order_id=str(n), type="MARKET", price=2.1118, **fields)
        case 1:
            audit.update_order(exchange="bybit", symbol="MNTUSDT", order_id=n, status="FILLED", **fields)
        case 2:
            audit.trade(
                exchange="bybit", symbol="MNTUSDT", side="sell", fee={"cost": -0.1, "currency": "BNB"}, **fields
            )
        case _:
            severity = chance.choice(["DEBUG", "INFO", "WARNING", "ERROR", "FATAL", "notice"])
            audit.event("position.closed", severity=severity, position_id="pending", **fields)


def test_ten_thousand_mixed_records_come_back_equal_by_value(tmp_path: Path) -> None:
    chance = random.Random(6)
    for service in ("fox-bot", "owl-bot"):
        with AuditLog(tmp_path, service=service, segment_max_bytes=1024 * 1024, resource={"env": "test"}) as audit:
            for n in range(5000):
                a_record(audit, chance, n)
            assert audit.stats().lost == 0
    done, back = exported(tmp_path)
    lines = expected(tmp_path)
    assert (done.records, done.losses, done.left_out, done.problems) == (10_000, 0, 0, {})
    assert done.segments > 2
    assert len(lines) == 10_000
    assert back == lines
    assert kinds(back) == kinds(lines)
    assert {"unencodable", "truncated", "trace_id"} <= {name for line in back for name in line}


NUMBERS = (
    "12345678901234567890123",
    "-9223372036854775809",
    "18446744073709551615",
    "9223372036854775807",
    "0.1234567890123456789",
    "100000000000000000000.5",
    "94.70000000000000000",
    "1e400",
    "-1E-400",
    "1e5",
    "1.50e+2",
    "-0.0",
    "123456789012345",
)


def test_numbers_of_more_digits_than_a_double_travel_as_text_and_say_so(tmp_path: Path) -> None:
    stream = new_stream()
    listed = ",".join(NUMBERS)
    raw = record(stream, 1).replace(b'"attributes":{}', f'"attributes":{{"a/b~c":[{listed}],"d":0.1}}'.encode())
    segment(tmp_path, raw, stream=stream)
    to = io.BytesIO()
    export_otlp(tmp_path, to)
    (found,) = parsed(to.getvalue().decode()).resource_logs[0].scope_logs[0].log_records
    attributes = mapping(found.attributes)
    spoilt = [0, 1, 2, 4, 5, 7, 8]
    assert attributes["tradetrail.numbers"] == [f"/attributes/a~1b~0c/{at}" for at in spoilt]
    assert [attributes["a/b~c"][at] for at in spoilt] == [NUMBERS[at] for at in spoilt]
    (back,) = read(to.getvalue().decode().splitlines())
    (line,) = expected(tmp_path)
    assert kinds(back) == kinds(line)


def test_times_in_other_forms_travel_as_they_were_written_too(tmp_path: Path) -> None:
    stream = new_stream()
    second = 1_795_353_056 * 10**9
    given: dict[Any, int] = {
        "2026-11-22T13:10:56.123456789Z": second + 123_456_789,
        "2026-11-22T13:10:56Z": second,
        "2026-11-22T14:10:56.5+01:00": second + 500_000_000,
        "1969-12-31T23:59:59Z": 0,
        "3000-01-01T00:00:00Z": 0,
        "2026-13-22T13:10:56Z": 0,
        "yesterday": 0,
        1_795_353_056_789: second + 789_000_000,
    }
    lines = [written(seq, "x", {}, stream=stream) for seq in range(1, len(given) + 1)]
    lines = [re.sub(rb'"timestamp":"[^"]*"', b'"timestamp":' + json.dumps(time).encode(), text)
             for time, text in zip(given, lines, strict=True)]  # fmt: skip
    segment(tmp_path, *lines, stream=stream)
    to = io.BytesIO()
    assert export_otlp(tmp_path, to).records == len(given)
    found = parsed(to.getvalue().decode()).resource_logs[0].scope_logs[0].log_records
    assert [item.time_unix_nano for item in found] == list(given.values())
    beside = [mapping(item.attributes).get("tradetrail.timestamp") for item in found]
    assert beside == [None, None, *list(given)[2:]]


def test_a_lines_own_members_and_odd_severities_are_kept(tmp_path: Path) -> None:
    stream = new_stream()
    more = {"severity_text": 7, "severity_number": 99, "trace_id": TRACE.upper(), "span_id": SPAN, "later": {"a": [1]}}
    text = json.dumps(json.loads(record(stream, 1, note=None)) | more).encode() + b"\n"
    segment(tmp_path, text, stream=stream)
    _, (back,) = exported(tmp_path)
    assert back["attributes"] == {"note": None}
    assert {name: back[name] for name in more} == more | {"trace_id": TRACE}


def test_a_value_sixty_deep_comes_back(tmp_path: Path) -> None:
    deep: Any = "end"
    for _ in range(55):
        deep = {"d": [deep]} if _ % 9 == 0 else {"d": deep}
    with AuditLog(tmp_path, service="bot") as audit:
        audit.event("x", deep=deep)
    assert exported(tmp_path)[1][0]["attributes"] == expected(tmp_path)[0]["attributes"]


# -- what is taken --


def test_resource_of_each_stream(tmp_path: Path) -> None:
    with AuditLog(tmp_path, service="fox-bot", resource={"env": "prod", "service.version": "1.2"}) as audit:
        audit.event("x")
        stream = audit.stats().stream
    done = tradetrail("export", "--format", "otlp", "--dir", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (found,) = parsed(done.stdout).resource_logs
    assert mapping(found.resource.attributes) == {
        "service.name": "fox-bot",
        "service.version": "1.2",
        "service.instance.id": f"{stream[:8]}-{stream[8:12]}-{stream[12:16]}-{stream[16:20]}-{stream[20:]}",
        "env": "prod",
        "host.name": os.uname().nodename,
        "process.pid": os.getpid(),
        "process.runtime.version": sys.version.split()[0],
        "tradetrail.stream": stream,
    }


def test_declared_losses_travel_and_other_control_lines_do_not(tmp_path: Path) -> None:
    stream = new_stream()
    ranges = [{"first": 2, "last": 3, "reason": "ring full"}]
    lost = {
        "stream": stream, "timestamp": "2026-11-22T13:11:00.000001Z", "severity_text": "ERROR", "severity_number": 17,
        "event_name": "audit.lost", "attributes": {"count": 2, "ranges": ranges},
    }  # fmt: skip
    closed_segment(tmp_path, [record(stream, 1), json.dumps(lost).encode() + b"\n", record(stream, 4)], stream=stream)
    done, back = exported(tmp_path)
    assert (done.records, done.losses, done.left_out) == (2, 1, 0)
    assert back == expected(tmp_path)
    assert back[1]["attributes"] == {"count": 2, "ranges": ranges}


def test_a_torn_last_line_is_no_problem_and_lines_that_are_no_records_are_counted(tmp_path: Path) -> None:
    stream = new_stream()
    odd = [
        b"\n", b"{}\n", b"not json\n", b'{"stream":"\xff"}\n', record(new_stream(), 2), record(stream, 0),
        record(stream, 2).replace(b'"seq":2', b'"seq":"2"'), record(stream, 2, ""), record(stream, 2, x="\ud800"),
        record(stream, 2, x=1).replace(b'"x":1', b'"x":NaN'), b"[" * 100_000 + b"\n", b"x" * (3 * 1024 * 1024) + b"\n",
        record(stream, 2).replace(b'{}', b"[]"),
        record(stream, 2, x=1).replace(b"1}", b'12345678901234567,"y":"\\ud800"}'),
        b'{"a":[1.23456789012345678' + b",[" * 100_000 + b"\n",
    ]  # fmt: skip
    segment(tmp_path, record(stream, 1), *odd, record(stream, 3), record(stream, 4)[:-20], stream=stream)
    done = tradetrail("export", "--format", "otlp", "--dir", tmp_path)
    assert [back["seq"] for back in read(done.stdout.splitlines())] == [1, 3]
    said = one_line(done, 1)
    assert said == (
        f"tradetrail: warning: {len(odd)} lines are no records and were left out; "
        f"see: tradetrail validate --dir {tmp_path}"
    )


def test_bytes_that_a_failed_sync_made_void_are_left_out(tmp_path: Path) -> None:
    stream = new_stream()
    first = segment(tmp_path, record(stream, 1), stream=stream)
    offset = first.stat().st_size
    with first.open("ab") as file:
        file.write(record(stream, 2, spoilt=True))
    segment(tmp_path, record(stream, 2), record(stream, 3), stream=stream, number=2, replaces=(Void(1, offset),))
    done, back = exported(tmp_path)
    assert [(line["seq"], line["attributes"]) for line in back] == [(1, {}), (2, {}), (3, {})]
    assert done.segments == 2


def test_archives_stand_in_for_their_segments(tmp_path: Path) -> None:
    emit(tmp_path, orders=3)
    emit(tmp_path, orders=3)
    before = exported(tmp_path)
    first, second = sorted(tmp_path.glob("*.jsonl"))
    Path(f"{first}.gz").write_bytes(gzip.compress(first.read_bytes()))
    first.unlink()
    assert exported(tmp_path) == before
    whole = gzip.compress(second.read_bytes())
    Path(f"{second}.gz").write_bytes(whole[: len(whole) // 2])
    second.unlink()
    done, back = exported(tmp_path)
    assert list(done.problems) == [f"{second.name}.gz"]
    assert back == before[1][:10]


def test_a_bot_may_be_writing_meanwhile(tmp_path: Path) -> None:
    with AuditLog(tmp_path, service="fox-bot") as audit:
        audit.event("x")
        assert audit.flush()
        assert exported(tmp_path)[0].records == 1


def test_since_means_when_it_was_written_and_service_which_bot(tmp_path: Path) -> None:
    fox, owl = sorted((new_stream(), new_stream()))
    old, new = "2026-11-01T00:00:00.000000Z", "2026-11-20T00:00:00.000000Z"
    lines = [
        written(1, "x", {}, stream=fox, timestamp=old),
        written(2, "x", {}, stream=fox, timestamp=old, observed_timestamp=new),
        written(3, "x", {}, stream=fox, timestamp=new),
        written(4, "x", {}, stream=fox, timestamp="unknown"),
    ]
    closed_segment(tmp_path, lines, stream=fox, service="fox-bot", closed=False)
    closed_segment(tmp_path, [written(1, "x", {}, stream=owl, timestamp=old)], stream=owl, service="owl-bot")

    def seqs(**options: Any) -> list[tuple[str, int]]:
        return [(back["stream"], back["seq"]) for back in exported(tmp_path, **options)[1]]

    late = [(fox, 2), (fox, 3), (fox, 4)]
    assert seqs(since=datetime(2026, 11, 10, tzinfo=UTC)) == late
    assert seqs(since=datetime.fromisoformat(new)) == late
    assert seqs(services=["owl-bot"]) == [(owl, 1)]
    assert seqs(services=["owl-bot", "fox-bot"]) == [(fox, 1), *late, (owl, 1)]
    done = tradetrail("export", "--format", "otlp", "--dir", tmp_path, "--since", "2026-11-10", "--service", "fox-bot")
    assert [(back["stream"], back["seq"]) for back in read(done.stdout.splitlines())] == late
    # Closed long before the time asked for: not read at all.
    done, _ = exported(tmp_path, since=datetime.now(UTC) + timedelta(hours=2))
    assert (done.segments, done.records) == (1, 1)


def test_memory_stays_bounded_whatever_the_input(tmp_path: Path) -> None:
    stream = new_stream()
    wide = record(stream, 1, text="x" * 60_000)
    segment(tmp_path, *[wide] * 1000, b"y" * (32 * 1024 * 1024) + b"\n", stream=stream)
    code = (
        "import resource, sys; from pathlib import Path; from loader.export import export_otlp\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "done = export_otlp(Path(sys.argv[1]), open('/dev/null', 'wb'))\n"
        "assert (done.records, done.left_out) == (1000, 1), done\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) < 24 * 1024  # KB, for 90 MB


# -- the command --


def test_a_file_is_private_whole_and_not_replaced_unasked(tmp_path: Path) -> None:
    log, file = tmp_path / "audit", tmp_path / "trail.jsonl"
    emit(log, orders=3)
    export = ("export", "--format", "otlp", "--dir", log, "-o", file)
    said = tradetrail(*export)
    assert (said.returncode, said.stderr) == (0, "")
    assert re.fullmatch(rf"10 records in {file} \(1 line, [0-9.]+ KB\)\n", said.stdout)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(list(read(file.read_text().splitlines()))) == 10
    refused = one_line(tradetrail(*export), 2)
    assert refused == f"tradetrail: {file}: is there already; give another name, or --force to replace it"
    file.write_text("old")
    told = answer(*export, "--force")
    size = file.stat().st_size
    assert told == {
        "file": str(file), "records": 10, "losses": 0, "lines": 1, "bytes": size, "segments": 1, "left_out": 0
    }  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit", "trail.jsonl"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--format", "oltp"), "--format is one of otlp, not 'oltp'"),
        (("--format", "parquet"), "--format is one of otlp, not 'parquet'"),
        ((), "Missing option '--format'"),
        (("--format", "otlp", "--json"), "--json tells what is in a file: name one with -o"),
        (("--format", "otlp", "--since", "soon"), "--since: 'soon' is no time"),
        (("--format", "otlp", "--service", "fax-bot"), "wrote here: fox-bot"),
        (("--format", "otlp", "--service", "fax-bot", "-o", "x"), "wrote here: fox-bot"),
        (("--format", "otlp", "-o", "nowhere/x"), "nowhere: there is no such directory"),
        (("--format", "otlp", "-o", "."), ".: is a directory"),
        (("--format", "otlp", "-o", "/dev/full", "--force"), "/dev/full: is no regular file"),
    ],
)
def test_wrong_use_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], said: str
) -> None:
    emit(tmp_path / "var/audit", orders=1)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as error:
        run(["export", *options])
    assert said in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["var"]


def test_an_empty_log_makes_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "audit").mkdir()
    told = answer("export", "--format", "otlp", "--dir", tmp_path / "audit", "-o", tmp_path / "x")
    assert (told["records"], told["lines"], told["bytes"]) == (0, 0, 0)
    with pytest.raises(UsageError, match=r"^--service: 'bot' has written nothing here$"):
        exported(tmp_path / "audit", services=["bot"])


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    emit(tmp_path, orders=1)
    broken = tmp_path / f"bot.{new_stream()}.000001.jsonl"
    broken.write_text("no header\n")
    done = tradetrail("export", "--format", "otlp", "--dir", tmp_path)
    assert len(list(read(done.stdout.splitlines()))) == 4
    said = one_line(done, 1)
    assert said == f"tradetrail: warning: {broken.name}: its first line is no segment header"


def test_a_full_disk_leaves_no_file_behind(tmp_path: Path) -> None:
    log = tmp_path / "audit"
    emit(log, orders=500)
    limited = f"ulimit -f 64; exec {SCRIPT} export --format otlp --dir {log} -o {tmp_path}/x"  # 64 KiB a file
    done = subprocess.run(
        ["bash", "-c", f"trap '' XFSZ; {limited}"], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert one_line(done, 3) == f"tradetrail: {tmp_path}/x: cannot be written: File too large"
    assert [path.name for path in tmp_path.iterdir()] == ["audit"]


def test_a_reader_that_has_enough_is_no_fault(tmp_path: Path) -> None:
    emit(tmp_path, orders=2000)
    command = f"set -o pipefail; {SCRIPT} export --format otlp --dir {tmp_path} | head -c 10"
    done = subprocess.run(["bash", "-c", command], env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, '{"resource', "")


# -- docs/opentelemetry.md --


def test_the_pages_collector_configuration_is_whole() -> None:
    (text,) = Page("docs/opentelemetry.md").code("yaml")
    found = yaml.safe_load(text)
    assert found["receivers"]["otlpjsonfile"] == {
        "include": ["/var/spool/tradetrail/*.jsonl"], "start_at": "beginning", "max_log_size": "8MiB"
    }  # fmt: skip
    (pipeline,) = found["service"]["pipelines"].values()
    assert set(pipeline["receivers"]) <= set(found["receivers"])
    assert set(pipeline["exporters"]) <= set(found["exporters"])

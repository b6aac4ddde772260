"""What a query, a role and a look from outside may not: read elsewhere, change what is logged, see a password."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from emitter import AuditLog
from loader.database import Database
from loader.errors import EnvironmentFault, TerminalError, UsageError
from loader.query import RawLog
from loader.statements import sql_dir
from tests.command import SCRIPT, emit, environment, one_line, record, segment, tradetrail

from .test_load import rows

# -- the query's sandbox --

OUTSIDE = """
SELECT * FROM read_text('{log}/link')
SELECT * FROM read_text('{log}/folder/secret')
SELECT * FROM read_text('{log}/*')
SELECT * FROM glob('{log}/folder/*')
SELECT * FROM glob('{log}/../*')
SELECT * FROM read_text('{log}/../elsewhere/secret')
SELECT * FROM read_text('{log}/./../elsewhere/secret')
SELECT * FROM read_text('{log}-other/secret')
SELECT * FROM read_blob('{elsewhere}/secret')
SELECT * FROM '{elsewhere}/secret'
SELECT * FROM read_text('file://{elsewhere}/secret')
SELECT * FROM read_csv('{elsewhere}/secret')
SELECT * FROM sniff_csv('{elsewhere}/secret')
SELECT * FROM read_json('{elsewhere}/secret')
SELECT * FROM parquet_metadata('{elsewhere}/secret')
SELECT * FROM read_duckdb('{elsewhere}/secret', table_name = 'x')
SELECT * FROM read_text('/proc/self/environ')
SELECT * FROM read_parquet('http://127.0.0.1:9/x')
SELECT * FROM read_csv('https://127.0.0.1:9/x')
SELECT * FROM read_csv('s3://bucket/x')
SELECT getenv('TRADETRAIL_DSN')
SELECT * FROM duckdb_secrets()
SELECT * FROM query('SELECT * FROM read_text(''{elsewhere}/secret'')')
SELECT * FROM query('COPY (SELECT 1) TO ''{elsewhere}/out''')
SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT * FROM read_text(''{elsewhere}/secret'')'))
SELECT * FROM enable_logging('QueryLog', storage = 'file', storage_path = '{elsewhere}/out')
SELECT * FROM enable_profiling(save_location = '{elsewhere}/out')
SELECT * FROM os
SELECT * FROM sql
SELECT 1) TO '{elsewhere}/out' --
SELECT 1) AS x; COPY (SELECT 1) TO '{elsewhere}/out'; SELECT * FROM (SELECT 1
SELECT 1) AS x; COPY (SELECT 1) TO '{log}/out'; SELECT * FROM (SELECT 1
WITH x AS (DELETE FROM raw.files RETURNING *) SELECT * FROM x
WITH x AS (COPY (SELECT 1) TO '{elsewhere}/out') SELECT * FROM x
COPY (SELECT 1) TO '{elsewhere}/out'
COPY raw.files FROM '{elsewhere}/secret'
EXPORT DATABASE '{elsewhere}/out'
IMPORT DATABASE '{elsewhere}'
ATTACH '{elsewhere}/out.db'
DETACH memory
INSTALL httpfs
LOAD '{log}/x.duckdb_extension'
FORCE INSTALL httpfs FROM 'http://127.0.0.1:9'
CREATE SECRET s (TYPE s3)
CREATE MACRO m() AS 1
CREATE TEMP TABLE t AS SELECT 1
SET memory_limit = '1TB'
RESET memory_limit
SET enable_external_access = true
SET allowed_directories = ['/']
PRAGMA enable_profiling
CALL pragma_version()
PREPARE p AS SELECT 1
USE memory
CHECKPOINT
VACUUM
BEGIN
""".strip().splitlines()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "secret").write_text("a\nSECRET\n")
    return folder


def test_a_query_reads_the_log_and_nothing_else(
    tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADETRAIL_DSN", "postgresql://bot:SECRET@db/bot")
    log = tmp_path / "audit"
    emit(log)
    (log / "link").symlink_to(elsewhere / "secret")
    (log / "folder").symlink_to(elsewhere)
    (tmp_path / "audit-other").mkdir()
    (tmp_path / "audit-other" / "secret").write_text("SECRET")
    with RawLog(log) as raw:
        for sql in OUTSIDE:
            asked = sql.replace("{log}", str(log)).replace("{elsewhere}", str(elsewhere))
            with pytest.raises((UsageError, EnvironmentFault)) as refused:
                pytest.fail(f"{asked}: {list(raw.query(asked).rows)}")
            assert "SECRET" not in str(refused.value), asked
        assert next(raw.query("SELECT count(*) FROM trades").rows) == (3,)  # and is as it was
        settings = [str(row) for row in raw.query("SELECT * FROM duckdb_settings()").rows]
        assert not [row for row in settings if "SECRET" in row]
    assert [path.name for path in elsewhere.iterdir()] == ["secret"]


def test_a_select_from_a_file_is_held_to_the_same(tmp_path: Path, elsewhere: Path) -> None:
    emit(tmp_path / "audit")
    (tmp_path / "ask.sql").write_text(f"COPY (SELECT 1) TO '{elsewhere}/out'")
    one_line(tradetrail("query", "--dir", tmp_path / "audit", "-f", tmp_path / "ask.sql"), 2)
    (tmp_path / "ask.sql").write_text(f"SELECT * FROM read_text('{elsewhere}/secret')")
    assert "SECRET" not in one_line(tradetrail("query", "--dir", tmp_path / "audit", "-f", tmp_path / "ask.sql"), 2)
    one_line(tradetrail("query", "--dir", tmp_path / "audit", "-f", elsewhere), 2)


# -- roles --


@pytest.fixture
async def roles(dsn: str) -> AsyncIterator[tuple[str, str]]:
    """DSNs of two users, one for each role of sql/roles.sql."""
    names = {role: f"{role}_{os.getpid()}" for role in ("tradetrail_loader", "tradetrail_reader")}
    async with await Database.connect(dsn) as owner:
        await owner.execute((sql_dir() / "roles.sql").read_text())
        for role, name in names.items():
            await owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'SECRET'; GRANT {role} TO {name}")
    loader, reader = (_as_user(dsn, name) for name in names.values())
    yield loader, reader
    async with await Database.connect(dsn) as owner:
        for name in names.values():
            await owner.execute(f"DROP ROLE {name}")


def _as_user(dsn: str, name: str) -> str:
    parts = urlsplit(dsn)
    return parts._replace(netloc=f"{name}:SECRET@{parts.netloc.rpartition('@')[2]}").geturl()


REFUSED = """
DELETE FROM monitoring.{table}
TRUNCATE monitoring.{table}
DROP TABLE monitoring.{table}
ALTER TABLE monitoring.{table} ADD COLUMN mine text
CREATE INDEX ON monitoring.{table} (stream)
CREATE TRIGGER mine BEFORE INSERT ON monitoring.{table} EXECUTE FUNCTION suppress_redundant_updates_trigger()
""".strip().splitlines()
REFUSED_ONCE = """
UPDATE monitoring.trades SET price = 1
UPDATE monitoring.events SET event_type = 'x'
UPDATE monitoring.order_updates SET price = 1
INSERT INTO monitoring.schema_migrations SELECT * FROM monitoring.schema_migrations
UPDATE monitoring.schema_migrations SET version = 1
CREATE TABLE monitoring.mine ()
CREATE TABLE public.mine ()
CREATE SCHEMA mine
CREATE ROLE mine
DROP SCHEMA monitoring
COPY monitoring.orders TO PROGRAM 'true'
COPY monitoring.orders TO '/tmp/tradetrail-out'
SELECT pg_read_file('/etc/passwd')
SELECT * FROM pg_authid
SELECT * FROM other.private
INSERT INTO other.private VALUES (1)
ALTER SYSTEM SET fsync = off
SET ROLE pg_read_server_files
""".strip().splitlines()
TABLES = ("orders", "trades", "order_updates", "events", "audit_segments", "audit_rejects")


async def test_the_roles_suffice_for_the_commands_and_for_nothing_more(
    dsn: str, roles: tuple[str, str], tmp_path: Path
) -> None:
    loader, reader = roles
    log = tmp_path / "audit"
    stream = emit(log)
    segment(log, record("0" * 32, 1, "order.created", exchange="x"), stream="0" * 32)
    await rows(dsn, "CREATE SCHEMA other")
    await rows(dsn, "CREATE TABLE other.private (a int)")
    place = ["--dir", log]
    assert tradetrail("load", *place, "--dsn", loader).returncode == 1  # one line is rejected
    assert tradetrail("rejects", "retry", "--dsn", loader).returncode == 1
    assert tradetrail("metrics", "--store", "--source", "db", "--dsn", loader).returncode == 0
    for user in (loader, reader):
        for args in (["status", *place], ["verify", *place], ["metrics", "--source", "db"], ["rejects", "list"]):
            done = tradetrail(*args, "--dsn", user)
            assert (done.returncode, done.stderr) == (0, ""), (args, done)
    with AuditLog(log, service="fox-bot") as audit:
        audit.event("more")
    said = one_line(tradetrail("load", *place, "--dsn", reader), 3)
    assert "give the role its rights with sql/roles.sql" in said
    assert "SECRET" not in said
    (seen,) = await rows(dsn, "SELECT count(*) AS n FROM monitoring.trades WHERE stream = $1", stream)
    assert seen["n"] == 3
    for user in (loader, reader):
        async with await Database.connect(user) as database:
            for text in [sql.replace("{table}", table) for sql in REFUSED for table in TABLES] + REFUSED_ONCE:
                with pytest.raises(TerminalError, match=r"permission denied|must be owner") as no:
                    pytest.fail(f"{user}: {text}: {await database.execute(text)}")
                assert no.value.sqlstate == "42501", (text, str(no.value))
    async with await Database.connect(reader) as database:
        for table in TABLES:
            with pytest.raises(TerminalError, match="permission denied"):
                await database.execute(f"INSERT INTO monitoring.{table} DEFAULT VALUES")


# -- passwords --


def test_a_password_stands_in_no_message_no_process_list_and_no_file(tmp_path: Path) -> None:
    emit(tmp_path / "audit")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    dsn = "postgresql://bot:S3CRET%2Fword@127.0.0.1:9/bot?sslpassword=S3CRET"
    (tmp_path / "dsn").write_text(f"{dsn}\n")
    env = environment(TRADETRAIL_DSN_FILE=str(tmp_path / "dsn"), TMPDIR=str(temporary), TRADETRAIL_DEBUG="1")
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            [SCRIPT, "watch", "--dir", tmp_path / "audit", "--json"], env=env, stdout=said, stderr=said
        ) as watching,
    ):
        try:
            while b"127.0.0.1" not in _all(said):
                assert watching.poll() is None, _all(said)
            assert b"S3CRET" not in Path(f"/proc/{watching.pid}/cmdline").read_bytes()
            for path in temporary.rglob("*"):
                assert path.is_dir() or b"S3CRET" not in path.read_bytes()
        finally:
            watching.send_signal(signal.SIGTERM)
            watching.wait(30)
        assert b"S3CRET" not in _all(said)
    for args in (["status", "--json"], ["verify"], ["load", "--timeout", "0"]):
        done = tradetrail(
            *args, "--dir", tmp_path / "audit", **{k: env[k] for k in ("TRADETRAIL_DSN_FILE", "TRADETRAIL_DEBUG")}
        )
        assert done.returncode == 3, done
        assert not re.search(r"S3CRET|word@", done.stdout + done.stderr)


def _all(file: object) -> bytes:
    return os.pread(file.fileno(), 1 << 20, 0)  # type: ignore[attr-defined]


@pytest.mark.parametrize("what", ["missing", "folder", "binary", "empty", "two lines"])
def test_a_dsn_file_that_cannot_be_used_is_one_line_without_what_is_in_it(tmp_path: Path, what: str) -> None:
    path = tmp_path / "dsn"
    if what == "folder":
        path.mkdir()
    elif what != "missing":
        texts = {"binary": b"\xff\xfeS3CRET", "empty": b"\n", "two lines": b"postgresql://a:S3CRET@h/d\nS3CRET\n"}
        path.write_bytes(texts[what])
    emit(tmp_path / "audit")
    done = tradetrail("load", "--timeout", "0", "--dir", tmp_path / "audit", TRADETRAIL_DSN_FILE=str(path))
    assert done.returncode in (2, 3)
    assert "S3CRET" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_secrets_in_records_and_the_seals_key_are_in_no_byte_that_is_written(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"S3CRET" * 8)
    key.chmod(0o600)
    with AuditLog(tmp_path / "audit", service="bot", seal_key=key, redact=["pin"]) as audit:
        bound = audit.bind(api_key="S3CRET")
        bound.event("x", apiKey="S3CRET", nested={"a": [{"secret": "S3CRET", "X-MBX-APIKEY": "S3CRET"}]}, PIN="S3CRET")
        bound.order(exchange="x", symbol="y", password={"deep": ["S3CRET"]}, headers=[("Authorization", "S3CRET")])
        bound.event("y", **{"KC-API-PASSPHRASE": "S3CRET", "access_token": b"S3CRET", "private-key": 1, "url": "a"})
        shown = repr((audit, audit.stats(), bound))
    assert "S3CRET" not in shown
    for path in (tmp_path / "audit").iterdir():
        assert b"S3CRET" not in path.read_bytes()
        assert path.read_bytes().count(b'"***"') >= 10

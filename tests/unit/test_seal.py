"""The seal of a segment: who has the key makes it, and it fits one footer only; the key is shown nowhere."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

import pytest

from emitter import AuditLog, SettingError
from emitter.seal import MIN_KEY_BYTES, Seal, read_seal
from emitter.segments import SegmentName, parse_footer, read_footer
from emitter.settings import EmitterSettings, settings_from_environment

from ..bots import ended, forked
from ..trail import only

KEY = b"0123456789abcdef0123456789abcdef"
NAME = SegmentName("0199e3c6a7b27c0e8d41c2f1a0b3d4e5", 2, "fox-bot")
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "seal.key"
    path.write_bytes(KEY)
    path.chmod(0o600)
    return path


def test_it_is_the_hmac_that_the_format_says() -> None:
    text = f"{NAME.stream}.000002.{SHA256}".encode()
    seal = Seal(KEY)
    assert seal.of(NAME, SHA256) == hmac.new(KEY, text, hashlib.sha256).hexdigest()
    documented = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
    example = next(line for line in documented.splitlines() if '"segment.closed"' in line and line.startswith("{"))
    footer = parse_footer(example.encode())
    assert footer
    assert seal.fits(NAME, footer.sha256, footer.hmac or "")


def test_it_fits_one_segment_and_one_digest() -> None:
    seal = Seal(KEY)
    made = seal.of(NAME, SHA256)
    assert seal.fits(NAME, SHA256, made)
    assert not seal.fits(NAME.next(), SHA256, made)
    assert not seal.fits(SegmentName("f" * 32, 2, "fox-bot"), SHA256, made)
    assert not seal.fits(NAME, SHA256[::-1], made)
    assert not Seal(KEY[::-1]).fits(NAME, SHA256, made)
    assert not seal.fits(NAME, SHA256, "no seal, but \N{SNOWMAN}")


def test_line_ends_behind_the_key_do_not_count(key: Path) -> None:
    made = read_seal(key).of(NAME, SHA256)
    key.write_bytes(KEY + b"\r\n")
    assert read_seal(key).of(NAME, SHA256) == made
    link = key.with_name("link")
    link.symlink_to(key)
    assert read_seal(link).of(NAME, SHA256) == made


def test_a_key_that_is_none_is_one_clear_line(key: Path, tmp_path: Path) -> None:
    def refused(path: Path, words: str) -> None:
        with pytest.raises(SettingError, match=words) as caught:
            read_seal(path)
        said = str(caught.value)
        assert said.startswith("seal_key: ")
        assert "\n" not in said
        assert KEY.decode()[:8] not in said

    refused(tmp_path / "none", "No such file")
    refused(tmp_path, "no regular file|Is a directory")
    os.mkfifo(tmp_path / "pipe", 0o600)
    refused(tmp_path / "pipe", "no regular file")
    key.write_bytes(KEY[: MIN_KEY_BYTES - 1] + b"\n")
    refused(key, f"{MIN_KEY_BYTES - 1} bytes")
    key.write_bytes(b"x" * 100_000)
    refused(key, "more than")
    key.write_bytes(KEY)
    for mode in (0o640, 0o604, 0o620):
        key.chmod(mode)
        refused(key, "chmod 600")


def test_the_setting_is_read_from_arguments_and_environment(key: Path, tmp_path: Path) -> None:
    assert settings_from_environment({"TRADETRAIL_SEAL_KEY": str(key)}).seal_key == key
    assert EmitterSettings().seal_key is None
    with pytest.raises(SettingError, match="seal_key"):
        AuditLog(tmp_path / "log", seal_key=tmp_path / "none")
    assert not (tmp_path / "log").exists(), "it is refused before anything is made"
    AuditLog(tmp_path / "log", seal_key=tmp_path / "none", disabled=True).close()


def test_every_footer_is_sealed_at_rotation_and_at_the_end(key: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with AuditLog(log, service="bot", seal_key=str(key), segment_max_bytes=1000) as audit:
        for n in range(20):
            audit.event("bot.noted", n=n)
        stats = repr(audit.stats())
    assert KEY.decode() not in stats + repr(audit._core.settings) + repr(vars(audit._core))
    trail = only(log).check()
    assert len(trail.segments) > 3
    seal = Seal(KEY)
    for segment in trail.segments:
        footer = read_footer(segment.path)
        assert footer
        name = SegmentName(trail.stream, segment.number, "bot")
        assert seal.fits(name, footer.sha256, footer.hmac or "")
        assert KEY not in segment.data


def test_a_forked_child_seals_though_the_key_is_gone(key: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with AuditLog(log, service="bot", seal_key=key) as audit:
        key.unlink()

        def child() -> None:
            audit.event("child.noted")
            audit.close()

        assert ended(forked(child)) == 0
    footers = [read_footer(path) for path in log.glob("*.jsonl")]
    assert len(footers) == 2
    assert all(footer is not None and footer.hmac for footer in footers)


def test_without_a_key_there_is_no_seal(tmp_path: Path) -> None:
    with AuditLog(tmp_path, service="bot") as audit:
        audit.event("bot.noted")
    footer = read_footer(next(tmp_path.glob("*.jsonl")))
    assert footer
    assert footer.hmac is None

"""The bytes of an archive, as they come out of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import zstandard

from loader.archive.files import blocks, whole_lines
from loader.inventory import take_inventory

from ..lines import line, segment

_MIB = 1024 * 1024


def _zst(path: Path, data: bytes) -> Path:
    packed = path.with_name(f"{path.name}.zst")
    packed.write_bytes(zstandard.ZstdCompressor().compress(data))
    return packed


def test_an_archive_that_unpacks_to_far_more_than_it_is_comes_in_pieces(tmp_path: Path) -> None:
    packed = _zst(tmp_path / "zeros", bytes(300 * _MIB))
    assert packed.stat().st_size < 20_000
    sizes = [len(block) for block in blocks(packed)]
    assert sum(sizes) == 300 * _MIB
    assert max(sizes) < 80 * _MIB


@pytest.mark.parametrize("long", [5_000_000, 20_000_000])
def test_an_archived_line_longer_than_a_block_is_looked_at_in_pieces(tmp_path: Path, long: int) -> None:
    lines = [line(seq, "ping", {"n": seq}) for seq in range(1, 11)]
    lines[4] = line(5, "ping", {"text": "x" * long})
    path = segment(tmp_path, lines)
    (raw,) = take_inventory(tmp_path).files
    packed = _zst(path, path.read_bytes())
    path.unlink()
    (archived,) = take_inventory(tmp_path, archived=True).files
    assert b"".join(whole_lines(packed, _MIB)) == b"".join(blocks(packed))
    assert (archived.bytes, archived.whole_bytes, archived.footer) == (raw.bytes, raw.whole_bytes, raw.footer)
    assert (archived.last_seq, archived.plain) == (10, False)
    assert archived.body_end == raw.whole_bytes - _footer_bytes(packed)


def _footer_bytes(packed: Path) -> int:
    *_, last = b"".join(blocks(packed)).splitlines(keepends=True)
    return len(last)


@pytest.mark.parametrize("behind", [0, 300_000, 3_000_000])
def test_the_last_record_is_found_however_far_back_it_stands(tmp_path: Path, behind: int) -> None:
    """Behind it one line that is none, and then a torn one."""
    path = segment(tmp_path, [line(seq, "ping", {"n": seq}) for seq in range(1, 4)], closed=False)
    with path.open("ab") as file:
        file.write(b"y" * behind + b"\n" if behind else b"")
        whole = file.tell()
        file.write(b'{"stream":"torn' + b"z" * behind)
    (found,) = take_inventory(tmp_path).files
    assert (found.whole_bytes, found.last_seq) == (whole, 3)

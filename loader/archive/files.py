"""Archived segments: the bytes of a ``.jsonl`` as ``.jsonl.zst`` or ``.jsonl.gz``, read as if they lay there raw.

An archive holds a segment byte for byte, under the segment's name and the suffix: in the folder ``archive`` of the log
directory (or where a link of that name leads), or beside the segments. Where the segment itself is there as well, the
segment is read.
"""

from __future__ import annotations

import errno
import gzip
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import zstandard

from emitter.segments import SegmentName, open_regular

# Where `tradetrail archive` puts them, in a log directory.
FOLDER = "archive"
# Where there are several of a segment, the one that is read fastest.
SUFFIXES = (".zst", ".gz")
# So little at once, as four bytes of zstd may stand for 128 KiB, and a decompressor gives all of them at once.
_ZST_BYTES = 2048
_BLOCK_BYTES = 4 * 1024 * 1024


def archives_in(directory: Path) -> dict[SegmentName, Path]:
    """The archives of a log directory, one for each segment, by stream and number."""
    found: dict[SegmentName, Path] = {}
    for folder in (directory, directory / FOLDER):
        for suffix in SUFFIXES:
            for path in folder.glob(f"*.jsonl{suffix}"):
                name = segment_of(path.name)
                if name is not None:
                    found.setdefault(name, path)
    return dict(sorted(found.items()))


def lost_folder(directory: Path) -> str | None:
    """What is wrong where the folder of archives is a link that leads nowhere; what is in it would be passed over."""
    folder = directory / FOLDER
    if folder.is_symlink() and not folder.exists():
        return f"leads to {folder.readlink()}, which is not there: what is archived is not seen"
    return None


def segment_of(file: str) -> SegmentName | None:
    """The segment that a file is, or is the archive of; None for another file."""
    for suffix in SUFFIXES:
        file = file.removesuffix(suffix)
    return SegmentName.parse(file)


def is_archive(path: Path) -> bool:
    """Whether a file is to be read as an archive, by its name."""
    return path.suffix in SUFFIXES


def opened(path: Path) -> BinaryIO:
    """A segment's bytes as a file that can be read anywhere; of an archive, a copy that nobody else sees.

    Errors: as those of :func:`blocks`.
    """
    if not is_archive(path):
        return open_regular(path)
    with ExitStack() as stack:
        file = stack.enter_context(tempfile.TemporaryFile())  # its own; closed only on an error
        file.writelines(blocks(path))
        file.seek(0)
        stack.pop_all()
    return file


def unpack(archive: Path, to: Path) -> Path:
    """Write the bytes of a segment to a file that is not there yet; the file."""
    with to.open("xb") as file:
        file.writelines(blocks(archive))
    return to


def blocks(path: Path) -> Iterator[bytes]:
    """The bytes of a segment, raw or archived, in blocks of some megabytes.

    Errors: ``OSError``, which says too that an archive is damaged or was cut off.
    """
    with open_regular(path) as file:
        read = {".zst": _zst, ".gz": _gz}.get(path.suffix, _raw)
        try:
            yield from _together(read(file))
        except (zstandard.ZstdError, zlib.error, gzip.BadGzipFile) as error:
            raise OSError(errno.EIO, f"is no archive, or a damaged one ({error})", str(path)) from error
        except EOFError as error:
            raise OSError(errno.EIO, "is an archive that was cut off", str(path)) from error


def whole_lines(path: Path, most: int) -> Iterator[bytes]:
    """As :func:`blocks`, each of them whole lines; what stands behind the last line end comes last.

    A line that is longer than ``most`` bytes, and than a block, comes in pieces, of which only the last ends a line.
    """
    rest = b""
    for block in blocks(path):
        end = block.rfind(b"\n") + 1
        if end:
            yield rest + block[:end]
            rest = block[end:]
        else:
            rest += block
            if len(rest) > most:
                yield rest
                rest = b""
    if rest:
        yield rest


def _raw(file: BinaryIO) -> Iterator[bytes]:
    while data := file.read(_BLOCK_BYTES):
        yield data


def _gz(file: BinaryIO) -> Iterator[bytes]:
    with gzip.open(file) as opened:
        while data := opened.read(_BLOCK_BYTES):
            yield data


def _zst(file: BinaryIO) -> Iterator[bytes]:
    """All frames, one behind the other; zstandard's own reader would not notice that the last one is cut off."""
    whole, rest = False, b""
    frame = zstandard.ZstdDecompressor().decompressobj()
    while data := rest or file.read(_ZST_BYTES):
        yield frame.decompress(data)
        whole, rest = frame.eof, frame.unused_data
        if whole:
            frame = zstandard.ZstdDecompressor().decompressobj()
    if not whole:
        raise EOFError


def _together(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Small pieces as large ones."""
    kept: list[bytes] = []
    size = 0
    for piece in pieces:
        kept.append(piece)
        size += len(piece)
        if size >= _BLOCK_BYTES:
            yield b"".join(kept)
            kept, size = [], 0
    if size:
        yield b"".join(kept)

"""One segment packed byte for byte, and proved: what is read back from the archive is what the segment holds."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import zstandard

from emitter.recovery import body_size
from emitter.segments import open_regular

from .files import blocks

# Three times as fast as 12, and 1 % larger; docs/archiving.md has figures.
LEVEL = 9
_READ_BYTES = 1024 * 1024
# In the name of what is being written; nobody reads such, and the next run removes what a killed one left.
MAKING = ".new"


class NotTheSame(Exception):
    """A segment's bytes are not those that others vouch for, or its archive's are not the segment's."""


class Digest(NamedTuple):
    """All bytes of a segment, raw or archived."""

    bytes: int
    sha256: str


def pack(segment: Path, archive: Path, sha256: str) -> int:
    """Make the archive of a closed segment whose body has this digest; the archive's bytes.

    It gets its name when it is whole, on the disk, and has been read back. Errors: :class:`NotTheSame`, and
    ``OSError``; then there is none.
    """
    made = archive.with_name(f"{archive.stem}{MAKING}{archive.suffix}")
    try:
        whole, body = _packed(segment, made)
        if body != sha256:
            raise NotTheSame("its bytes are not those that its footer and the database vouch for; it is not archived")
        if read_back(made) != whole:
            raise NotTheSame("its archive does not read back as it was written: is the disk sound?")
        made.replace(archive)
    except BaseException:
        with contextlib.suppress(OSError):
            made.unlink(missing_ok=True)
        raise
    return archive.stat().st_size


def prove(segment: Path, archive: Path, sha256: str) -> None:
    """That nothing is lost with a segment: its archive, read back, has its bytes, and its body this digest.

    Errors: :class:`NotTheSame`, and ``OSError`` where either cannot be read.
    """
    body_end = body_size(segment)
    with open_regular(segment) as file:
        whole, body = _digested(file, body_end, lambda _: 0)
    if body != sha256:
        raise NotTheSame("its bytes are not those that the database vouches for; it is not removed")
    if read_back(archive) != whole:
        raise NotTheSame("its archive does not have its bytes: remove the archive, and it is made anew")


def read_back(archive: Path) -> Digest:
    """The bytes of a segment as its archive gives them, from the disk where the kernel lets go of its copy."""
    with open_regular(archive) as file:
        os.fsync(file.fileno())
        with contextlib.suppress(OSError):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    digest, size = hashlib.sha256(), 0
    for block in blocks(archive):
        digest.update(block)
        size += len(block)
    return Digest(size, digest.hexdigest())


def _packed(segment: Path, made: Path) -> tuple[Digest, str]:
    body_end = body_size(segment)
    packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    with open_regular(segment) as file, made.open("wb") as to:
        as_private_as(os.fstat(file.fileno()), to)
        with packer.stream_writer(to, closefd=False) as packed:
            found = _digested(file, body_end, packed.write)
        to.flush()
        os.fsync(to.fileno())
    return found


def _digested(file: BinaryIO, body_end: int, take: Callable[[bytes], object]) -> tuple[Digest, str]:
    """What a segment's bytes are, and the digest of its body; ``take`` gets each piece."""
    digest, at, body = hashlib.sha256(), 0, ""
    while data := file.read(min(_READ_BYTES, body_end - at) if at < body_end else _READ_BYTES):
        digest.update(data)
        at += len(data)
        if at == body_end:
            body = digest.hexdigest()
        take(data)
    return Digest(at, digest.hexdigest()), body


def as_private_as(status: os.stat_result, to: BinaryIO) -> None:
    """Make a file readable for whom the one with this status is, and for nobody else."""
    shared = stat.S_IMODE(status.st_mode) & 0o040
    if shared:
        with contextlib.suppress(OSError):  # another's file, of a group that is not ours
            os.fchown(to.fileno(), -1, status.st_gid)
    os.fchmod(to.fileno(), 0o600 | shared)

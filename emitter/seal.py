"""The seal of a closed segment: an HMAC in its footer that only who has the key can make.

A digest alone can be made anew by whoever changes a file. The seal is HMAC-SHA256 (RFC 2104) over the segment's
identity and digest, so that it fits no other footer. The key is a file that only its owner may read.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from pathlib import Path

from .errors import SettingError
from .segments import SegmentName

MIN_KEY_BYTES = 32
_MAX_KEY_BYTES = 64 * 1024


class Seal:
    """A key, held where no message, no ``repr`` and no statistics show it."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, name: SegmentName, sha256: str) -> str:
        """The seal, in hex, of the segment whose body has this digest."""
        return hmac.new(self._key, message(name, sha256), hashlib.sha256).hexdigest()

    def fits(self, name: SegmentName, sha256: str, seal: str) -> bool:
        """Whether this key made that seal for this segment and digest."""
        return hmac.compare_digest(self.of(name, sha256).encode(), seal.encode())


def message(name: SegmentName, sha256: str) -> bytes:
    """What is sealed: ``<stream>.<number, at least 6 digits>.<digest in hex>``."""
    return f"{name.stream}.{name.number:06d}.{sha256}".encode()


def read_seal(path: Path) -> Seal:
    """The seal by a key file: private to its owner, at least 32 bytes; line ends behind the key do not count.

    A :class:`SettingError` says what is wrong with the file, and nothing of what is in it.
    """
    try:
        # A link is followed: secrets are mounted as such. Nobody waits for the other end of a FIFO.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise SettingError(f"seal_key: {path} is no regular file")
            if status.st_mode & 0o077:
                raise SettingError(f"seal_key: {path} is open to others than its owner; run: chmod 600 {path}")
            key = file.read(_MAX_KEY_BYTES + 1).rstrip(b"\r\n")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        if isinstance(error, SettingError):
            raise
        why = error.strerror if isinstance(error, OSError) else error
        raise SettingError(f"seal_key: {path} cannot be read: {why}") from error
    if not MIN_KEY_BYTES <= len(key) <= _MAX_KEY_BYTES:
        size = f"{len(key)} bytes" if len(key) <= _MAX_KEY_BYTES else f"more than {_MAX_KEY_BYTES} bytes"
        raise SettingError(
            f"seal_key: {path} holds {size}, a key has at least {MIN_KEY_BYTES}; make one with: openssl rand -hex 32"
        )
    return Seal(key)

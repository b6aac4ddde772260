"""What the emitter can raise, and only outside the bot's order path.

::

    EmitterError
    +-- SettingError      a setting has an impossible value (constructor only)
    +-- DirectoryError    the log directory cannot be made or written (constructor only)
    +-- RingDamaged       a ring file is not what its header says (recovery only; the ring is kept)
    +-- SegmentDamaged    the first line of a segment is no header (recovery only; the segment is kept)

The logging calls (``order``, ``trade``, ...) raise none of these.
"""

from __future__ import annotations


class EmitterError(Exception):
    """Base of all errors of this package."""


class SettingError(EmitterError, ValueError):
    """A setting has an impossible value."""


class DirectoryError(EmitterError, OSError):
    """The log directory cannot be made or written."""


class RingDamaged(EmitterError):
    """A ring file cannot be trusted; it is kept as it is for a person to look at."""


class SegmentDamaged(EmitterError):
    """A segment cannot be finished because its first line is no header; it is kept as it is."""

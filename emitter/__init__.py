"""tradetrail's emitter: a bot's orders and fills to local JSON lines, without ever waiting.

>>> from emitter import AuditLog
>>> audit = AuditLog("var/audit", service="fox-bot")
"""

from .audit import AuditLog, Stats
from .errors import DirectoryError, EmitterError, RingDamaged, SettingError
from .position import Position
from .records import SCHEMA_VERSION
from .repository import AuditRepository

__version__ = "0.1.0"

__all__ = [
    "SCHEMA_VERSION",
    "AuditLog",
    "AuditRepository",
    "DirectoryError",
    "EmitterError",
    "Position",
    "RingDamaged",
    "SettingError",
    "Stats",
]

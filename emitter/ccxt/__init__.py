"""From ccxt's unified order, trade and fee structures to the fields of ``AuditLog``'s typed calls.

Pure functions over plain dicts; ccxt itself is not imported. The structures are those of ccxt's manual
(docs.ccxt.com: "Order Structure", "Trade Structure", "Fee Structure"); what exchanges put into them goes
beyond it. ``docs/ccxt.md`` has the table of names, and which function belongs to which call of ccxt. The same
rules hold for all fields:

- What the source does not say (None, an empty text, an empty container) is left out, never 0.
- Nothing is computed that the source did not say.
- Numbers stay what they are; a number in a text becomes a ``Decimal`` with all its digits.
- Times become ISO 8601 in UTC (:func:`emitter.times.time_from` tells the units apart).
- A value of the wrong shape is passed on as it is: the loader judges it, and says so.
- ``derived`` names the fields that ccxt worked out, ``asked`` those that only the bot's request says.

No input raises. What is no mapping where a structure should be is kept as ``answer``.
"""

from .fees import fee_fields
from .orders import edit_fields, order_fields, update_fields
from .trades import fills_of, trade_fields

__all__ = ["edit_fields", "fee_fields", "fills_of", "order_fields", "trade_fields", "update_fields"]

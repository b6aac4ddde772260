"""``audit.position(...)``: the steps of a position's life, each as the records that belong to it.

What an order says of itself wins over the name of the call: one that is handed in as filled, and that the exchange
calls open, is written as open and makes no trade. What nobody says is taken from what the position knows, or left out.

``calls`` is what a bot calls, ``answers`` reads what it has, ``holding`` remembers, ``standing`` and ``executions``
work out what an order's records and fills say, and ``lifecycle`` writes them.
"""

from .calls import Position, position_of
from .holding import STOP_LOSS, TAKE_PROFIT

__all__ = ["STOP_LOSS", "TAKE_PROFIT", "Position", "position_of"]

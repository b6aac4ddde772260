"""Text for people: data shown on a terminal must not drive it."""

from __future__ import annotations


def visible(text: str) -> str:
    """The text with everything that does not print written as an escape (control signs, direction marks)."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in text)


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")


def json_escaped(text: str) -> str:
    """JSON that means the same, in which no sign can drive a terminal that shows it."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign < "\x7f" else _json_escape(sign) for sign in text)


def _json_escape(sign: str) -> str:
    pairs = sign.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{pairs[at : at + 2].hex()}" for at in range(0, len(pairs), 2))


def one_line(text: str) -> str:
    """The text on one line, and harmless."""
    return visible(" ".join(text.split()))


def count(number: int, one: str, many: str | None = None) -> str:
    """``1 record``, ``1,234 records``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(number: float) -> str:
    """Bytes as people read them: ``63.2 KB``."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number:,.0f} {unit}" if unit == "bytes" or number >= 100 else f"{number:,.1f} {unit}"
        number /= 1000
    raise AssertionError("the loop returns")

"""Numbers and texts of a view, as people read them in a terminal.

Thread: any.
Guarantees: texts of the user's, such as arguments and errors, are one line without control
characters, so they cannot play tricks on a terminal.
"""

from __future__ import annotations

from collections.abc import Sequence

#: From nothing to full: for a bar, and for a sparkline. The second ones are for terminals that only
#: know ASCII.
_BARS = (("░", "█"), (".", "#"))
_SPARKS = (" ▁▂▃▄▅▆▇█", " .:-=+*#")


def count(number: float) -> str:
    """A number of calls."""
    return f"{number:,.0f}" if number >= 10 or number == int(number) else f"{number:.1f}"


def seconds(duration: float) -> str:
    """A duration, to two or three digits."""
    if duration < 0.001:
        return f"{duration * 1e6:.0f} µs" if duration else "0 s"
    if duration < 1:
        return f"{duration * 1000:.3g} ms" if duration < 0.9995 else "1.0 s"
    if duration < 99.95:
        return f"{duration:.1f} s"
    minutes, rest = divmod(round(duration), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(number: int) -> str:
    """A number of bytes."""
    if number < 1000:
        return f"{number} B"
    scaled = float(number)
    for unit in ("kB", "MB", "GB", "TB"):
        scaled /= 1000
        if scaled < 999.5 or unit == "TB":
            break
    return f"{scaled:.3g} {unit}" if scaled < 100 else f"{scaled:.0f} {unit}"


def line(text: str, width: int) -> str:
    """The first ``width`` characters of a text, as one line that can be printed."""
    shown = "".join(each if each.isprintable() else " " for each in text[: 4 * width].strip())
    shown = " ".join(shown.split())
    return shown if len(shown) <= width else shown[: max(0, width - 3)] + "..."


def bar(share: float, width: int, ascii_only: bool = False) -> str:
    """A bar of which a share from 0 to 1 is full; what is not empty shows a bit at least."""
    empty, full = _BARS[ascii_only]
    filled = min(width, max(int(share * width + 0.5), 1 if share > 0 else 0))
    return full * filled + empty * (width - filled)


def sparkline(values: Sequence[float], width: int, ascii_only: bool = False) -> str:
    """The last ``width`` of these values as a small plot, scaled to the largest of them; what is
    not 0 is not empty."""
    marks = _SPARKS[ascii_only]
    shown = values[-width:]
    largest = max(shown, default=0.0)
    if largest <= 0:
        return marks[0] * len(shown)
    top = len(marks) - 1
    return "".join(
        marks[max(1, round(value / largest * top))] if value > 0 else marks[0] for value in shown
    )

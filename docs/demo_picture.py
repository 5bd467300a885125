"""Run the demo, and draw what it printed as docs/_static/demo.svg: ``make demo-picture``.

The demo runs on a terminal of its own, so that it draws its progress bar. Of what stood in a line
one after another, the picture has the last, as a screen would.
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "examples" / "fetch_urls.py"
PICTURE = ROOT / "docs" / "_static" / "demo.svg"
COLUMNS = 100


def main() -> None:
    """Run the demo, and write the picture."""
    screen = shown(run([sys.executable, str(DEMO)]))
    PICTURE.write_text(draw(screen), encoding="utf-8")
    print(screen)


def run(command: list[str]) -> str:
    """What the command prints on a terminal."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, COLUMNS))
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs) as demo:
        os.close(theirs)
        printed = bytearray()
        while chunk := read(ours):
            printed += chunk
    os.close(ours)
    if demo.returncode:
        raise SystemExit(f"the demo failed:\n{printed.decode()}")
    return printed.decode().replace("\r\n", "\n")


def read(terminal: int) -> bytes:
    """What comes next; nothing once nobody can write any more, which Linux says by an error."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def shown(printed: str) -> str:
    """The screen: of what was drawn over a line again and again, what it showed in the end."""
    lines = [
        next((part for part in reversed(line.split("\r")) if part.strip()), "")
        for line in printed.strip().split("\n")
    ]
    return "\n".join(["$ make demo", *lines])


def draw(screen: str) -> str:
    """The screen as an SVG that needs no font from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(screen), soft_wrap=False)
    picture = console.export_svg(title="examples/fetch_urls.py", unique_id="demo")
    return re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)


if __name__ == "__main__":
    main()

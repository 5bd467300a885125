"""Programs of their own that use a cluster."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from . import processes


def start(folder: Path, text: str, *arguments: object) -> subprocess.Popen[str]:
    """Start ``text`` as a script, with pipes for its output, and for its input."""
    path = folder / "script.py"
    path.write_text(textwrap.dedent(text))
    return subprocess.Popen(
        [sys.executable, str(path), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=processes.inherited_environment(),
    )


def run(folder: Path, text: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``text`` as a script; fail the test if it fails, or hangs."""
    with start(folder, text, *arguments) as process:
        try:
            out, err = process.communicate(timeout=2 * processes.PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(
                f"the script hangs; it wrote: {process.communicate()[1]}"
            ) from None
    assert process.returncode == 0, err
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)

"""The documentation's examples run, its reference is complete, and what it names is there.

Each ```python block of README.md and docs/*.md is run as a script of its own, from a file, as a
reader would: so workers can import its `__main__`, and a missing guard shows. A block that cannot
run here is left out by a comment before it that says why:

    <!-- not run: needs a PostgreSQL server -->
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLE_SECONDS = 60

FENCE = re.compile(r"^ *(?P<ticks>`{3,}|~{3,}) *(?P<info>[^`]*)$")
LEFT_OUT = re.compile(r"<!-- *not run: *(?P<reason>.*?) *-->")
#: What has no place in the output of an example that works.
NOISE = re.compile(r"Traceback \(most recent call last\)|\w+Warning: ")


@dataclass(frozen=True)
class Example:
    line: int
    code: str
    #: Why it is not run; None if it is.
    left_out: str | None


def examples_in(text: str) -> list[Example]:
    found: list[Example] = []
    fence: re.Match[str] | None = None
    start, above = 0, ""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        match = FENCE.match(line)
        if fence is None:
            if match:
                fence, start = match, number + 1
            elif line.strip():
                above = line
            continue
        # A block ends at a bare fence no shorter than the one that opened it.
        if match and not match["info"] and match["ticks"].startswith(fence["ticks"]):
            if re.match(r"(\{code-block\} *)?(python|py|python3)\b", fence["info"]):
                comment = LEFT_OUT.search(above)
                code = textwrap.dedent("\n".join(lines[start:number])) + "\n"
                found.append(Example(start + 1, code, comment and comment["reason"]))
            fence, above = None, ""
    assert fence is None, f"the block that opens on line {start} never ends"
    return found


EXAMPLES = [
    pytest.param(example, id=f"{page.relative_to(ROOT)}:{example.line}")
    for page in PAGES
    if page.exists()
    for example in examples_in(page.read_text(encoding="utf-8"))
]


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    script = folder / "example.py"
    script.write_text(code, encoding="utf-8")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=EXAMPLE_SECONDS,
        check=False,
    )


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_runs(example: Example, tmp_path: Path) -> None:
    if example.left_out is not None:
        assert example.left_out, "say why this example is not run"
        pytest.skip(example.left_out)
    done = run(example.code, tmp_path)
    output = f"\n{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, output
    assert not NOISE.search(done.stderr), output


def test_reference_names_everything_public() -> None:
    public = importlib.import_module("hybridexec").__all__
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    missing = [name for name in public if not re.search(rf"\bhybridexec\.{name}\b", reference)]
    assert not missing


def test_examples_are_found() -> None:
    text = """\
<!-- not run: needs a server -->

```python
one
```

- in a list:

  ```python
  if two:
      pass
  ```

```text
not code
```

````markdown
```python
quoted
```
````

```{code-block} python
three
```
"""
    assert examples_in(text) == [
        Example(4, "one\n", "needs a server"),
        Example(10, "if two:\n    pass\n", None),
        Example(25, "three\n", None),
    ]


@pytest.mark.parametrize(
    ("code", "works"),
    [
        ("print('fine')\n", True),
        ("raise SystemExit(3)\n", False),
        ("import warnings; warnings.warn('noise')\n", False),
    ],
)
def test_a_bad_example_is_told_from_a_good_one(code: str, works: bool, tmp_path: Path) -> None:
    example = Example(1, code, None)
    if works:
        test_example_runs(example, tmp_path)
    else:
        with pytest.raises(AssertionError):
            test_example_runs(example, tmp_path)


def test_the_demos_picture_shows_what_stood_on_the_screen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    picture = importlib.import_module("demo_picture")
    program = "import os; print('10%', end='\\r'); print('100%'); print(os.isatty(1))"
    screen = picture.shown(picture.run([sys.executable, "-c", program]))
    assert screen.splitlines() == ["$ make demo", "100%", "True"]
    drawn = picture.draw(screen)
    assert ">100%</text>" in drawn
    assert "@font-face" not in drawn


NAMED_TEST = re.compile(r"`((?:tests|benchmarks)/[\w/]+\.py)(?:::(test_\w+))?`")


def test_the_tests_that_pages_name_exist() -> None:
    named = [match for page in PAGES for match in NAMED_TEST.findall(page.read_text("utf-8"))]
    assert len(named) > 20
    for path, name in named:
        source = (ROOT / path).read_text("utf-8")
        assert not name or f"def {name}(" in source, f"{path}::{name}"


def test_the_tests_that_the_security_page_names_exist() -> None:
    named = re.findall(r"`(test_\w+)`", (ROOT / "docs" / "security.md").read_text("utf-8"))
    source = (ROOT / "tests" / "contract" / "test_security.py").read_text("utf-8")
    assert len(named) > 5
    assert not [name for name in named if f"def {name}(" not in source]


def test_the_architecture_names_no_module_that_is_gone() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    named = {name for name in re.findall(r"`([\w/]+\.py)`", text) if not name.startswith("tests/")}
    assert len(named) > 50
    assert not [name for name in named if not (ROOT / "hybridexec" / name).exists()]

"""Print README's first example."""

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")

example = re.search(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
assert example is not None
print(example[1], end="")

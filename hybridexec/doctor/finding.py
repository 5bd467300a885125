"""What the doctor finds.

Guarantees: each code has a section of the same name on the documentation's page "Doctor".
"""

from __future__ import annotations

from typing import NamedTuple

#: What is found besides the drivers of :mod:`hybridexec.drivers`, by the names of their sections.
CODES = (
    "main-guard",
    "patched-too-late",
    "fork",
    "open-files",
    "resolver",
    "bytecode",
    "versions",
    "interpreter",
    "syntax",
    # What is found while a program runs.
    "blocked",
    "held-up",
)


class Finding(NamedTuple):
    """Something that is wrong."""

    code: str
    #: A file and line, or what it is about.
    where: str
    what: str
    cure: str

    @property
    def see(self) -> str:
        """Where the documentation tells more."""
        return f"doctor.html#{self.code}"

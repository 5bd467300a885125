"""The page as one file, which needs nothing else: what the executor did until it was written.

Thread: any.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bokeh.document import Document
from bokeh.embed import file_html
from bokeh.resources import INLINE

from . import looks
from .document import TITLE, Page
from .record import record

if TYPE_CHECKING:
    from ...parent.engine.watched import Watched


def write(watched: Watched, path: str | os.PathLike[str]) -> None:
    """Write the report of an executor."""
    document = Document()
    Page(document, record(watched))
    html = file_html(
        document,
        INLINE,
        TITLE,
        template=looks.FRAME,
        template_variables=document.template_variables,
    )
    # An error's text may have half of a pair of surrogates.
    with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(html)

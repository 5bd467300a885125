"""Sphinx reads this: Markdown pages through MyST, the reference from docstrings.

Nothing here needs the network, so that the documentation builds anywhere (hence no intersphinx).
"""

from importlib.metadata import version as installed_version

project = "hybridexec"
author = "hybridexec contributors"
copyright = author
version = release = installed_version("hybridexec")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_design",
]
exclude_patterns = ["_build"]

# Single backquotes in a docstring link to what they name, where that is documented.
default_role = "py:obj"

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
napoleon_use_ivar = True
python_use_unqualified_type_names = True
# One parameter a line once a signature is wider than a page.
maximum_signature_line_length = 88

myst_enable_extensions = ["colon_fence", "deflist"]
# Headings can be linked to, as on the pages of a code host.
myst_heading_anchors = 3

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"hybridexec {release}"
html_show_sphinx = False

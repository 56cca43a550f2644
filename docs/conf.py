"""The pages: `make docs` builds them, every warning an error (docs/adr/0015-pages.md)."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

project = "LAformer"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "extensions.directives",
    "extensions.modules",
    "extensions.sources",
]
exclude_patterns = ["extensions", "evidence", "images"]
html_theme = "furo"
html_title = "LAformer"
html_show_copyright = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
html_static_path = ["style"]
html_css_files = ["pages.css"]

myst_heading_anchors = 4

default_role = "code"
smartquotes = False  # options begin with two dashes
# Fields of several classes have one name, and a docstring's first word may be one of them.
suppress_warnings = ["ref.python"]
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
maximum_signature_line_length = 88
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True

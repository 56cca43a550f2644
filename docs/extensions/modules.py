"""Writes a page for every module of the three packages, filled from its docstrings."""

import re
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
PACKAGES = ("jobs", "laformer", "pipelines")
FOLDER = "reference/api"
MARKUP = re.compile(r"(\*|_(?!\w))")
"""What reStructuredText would read as emphasis or as a link."""
PAGE = """# {name}

```{{eval-rst}}
.. automodule:: {name}
   :members:
   :show-inheritance:
```
"""


def modules() -> list[str]:
    """Return the names of all modules that hold something."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    parts = sorted(path.relative_to(ROOT).with_suffix("").parts for path in paths)
    return [".".join(each) for each in parts if not each[-1].startswith("__")]


def write(app: Sphinx) -> None:
    """Write the pages that differ from what is there, and remove those of what is gone."""
    folder = Path(app.srcdir) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {folder / f"{name}.md": PAGE.format(name=name) for name in modules()}
    for path in set(folder.glob("*.md")) - set(wanted):
        path.unlink()
    for path, text in wanted.items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def plain(_: Sphinx, __: str, ___: str, ____: object, _____: object, lines: list[str]) -> None:
    """Leave docstrings as they are read in the code: `code` is markup, an asterisk is none."""
    for index, line in enumerate(lines):
        parts = line.split("`")
        if len(parts) % 2:  # every backtick has its other one on this line
            parts[::2] = [MARKUP.sub(r"\\\1", part) for part in parts[::2]]
            parts[1::2] = [part.strip() for part in parts[1::2]]
        lines[index] = "`".join(parts)


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx."""
    app.connect("builder-inited", write)
    app.connect("autodoc-process-docstring", plain)
    return {"parallel_read_safe": True}

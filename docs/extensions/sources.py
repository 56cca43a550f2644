"""A link to a module's file leads to the page of that module, which has its source."""

import re

from extensions.modules import FOLDER, modules
from sphinx.application import Sphinx

LINK = re.compile(r"\]\((?:\.\./)+((?:jobs|laformer|pipelines)/[\w/]+)\.py\)")


def turned(text: str) -> str:
    """Return a page's Markdown with its links to modules turned."""
    known = set(modules())

    def page(found: re.Match[str]) -> str:
        name = found[1].replace("/", ".")
        return f"](/{FOLDER}/{name}.md)" if name in known else found[0]

    return LINK.sub(page, text)


def read(_: Sphinx, __: str, content: list[str]) -> None:
    """Turn the links of a page that was read."""
    content[0] = turned(content[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx."""
    app.connect("source-read", read)
    return {"parallel_read_safe": True}

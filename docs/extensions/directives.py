"""`{options} VERB` and `{messages}`: tables that are read from the code."""

from typing import ClassVar

from docutils import nodes
from extensions import messages, options
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Options(SphinxDirective):
    """`{options} VERB`: what the verb is, and what it is told."""

    required_arguments: ClassVar[int] = 1

    def run(self) -> list[nodes.Node]:
        """Return the paragraph and the table."""
        return self.parse_text_to_nodes(options.markdown(self.arguments[0]))


class Messages(SphinxDirective):
    """`{messages}`: all of them, by what they are about."""

    def run(self) -> list[nodes.Node]:
        """Return the tables."""
        return self.parse_text_to_nodes(messages.markdown())


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx."""
    app.add_directive("options", Options)
    app.add_directive("messages", Messages)
    return {"parallel_read_safe": True}

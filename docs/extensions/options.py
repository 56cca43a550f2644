"""What a verb is told, as a table: read from its dataclass, so that no page can differ."""

import ast
import dataclasses
import inspect
import re
import textwrap
import types
from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from jobs import cli


@dataclass(frozen=True)
class Option:
    """One flag, or one word that stands by its place."""

    name: str
    """--flag, or WORD."""
    values: str
    """What it takes."""
    default: str
    """What it is when it is not given; empty where it has to be."""
    text: str
    """The docstring of its field."""


def options(kind: type, prefix: str = "", *, recipe: bool = False) -> Iterator[Option]:
    """Yield the options of a job, nested values behind the name of their field.

    Args:
        kind: a dataclass of jobs/config.py, or of a field of one.
        prefix: what stands before the names.
        recipe: whether defaults are a recipe's and so not those of the class.
    """
    hints, texts = get_type_hints(kind, include_extras=True), docstrings(kind)
    for field in dataclasses.fields(kind):
        annotation, marks = unwrapped(hints[field.name])
        told = {repr(mark) for mark in marks}
        if told & {"Suppress", "Fixed"}:
            continue
        if dataclasses.is_dataclass(annotation):
            merged = any(getattr(mark, "name", None) == "" for mark in marks)
            inner = prefix if merged else f"{prefix}{field.name}."
            yield from options(annotation, inner, recipe=recipe)
            continue
        metavar = next((mark.metavar for mark in marks if getattr(mark, "metavar", "")), None)
        flag = f"--{prefix}{field.name}".replace("_", "-")
        placed = "Positional" in told
        yield Option(
            name=(metavar or field.name.upper()) if placed else flag,
            values="" if placed else metavar or values(annotation),
            default="the recipe's" if recipe and prefix else default_of(field),
            text=texts.get(field.name, ""),
        )


def unwrapped(annotation: Any) -> tuple[Any, list[Any]]:
    """Return a type without its marks, and the marks."""
    marks: list[Any] = []
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        marks += more
    return annotation, marks


def values(annotation: Any) -> str:
    """Return in words what an option takes."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is bool:
        return "yes or --no-…"
    if origin is Literal:
        return ", ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(values(each) for each in arguments if each is not type(None))
    if origin is tuple:
        inner = [values(each) for each in arguments if each is not Ellipsis]
        return f"{inner[0]} …" if Ellipsis in arguments else " ".join(inner)
    return {"str": "text", "int": "whole number", "float": "number"}.get(
        annotation.__name__, annotation.__name__
    )


def default_of(field: Any) -> str:
    """Return a default as it would be typed; nothing where there is none."""
    value = field.default
    if field.default_factory is not MISSING:
        value = field.default_factory()
    if value is MISSING or value is None or value in ("", ()):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def docstrings(kind: type) -> dict[str, str]:
    """Return the docstring under each field."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                assert isinstance(field.target, ast.Name)
                found[field.target.id] = inspect.cleandoc(ast.literal_eval(text.value))
    return found


def literal(text: str) -> str:
    """Return a docstring as Markdown: `code` is markup, underscores and asterisks are none."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([_*<])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def markdown(verb: str) -> str:
    """Return what a verb is, and its options as a table."""
    kind, _ = cli.VERBS[verb]
    recipe = verb in ("train", "tune")
    lines = [literal(inspect.getdoc(kind) or ""), ""]
    lines += ["| | takes | default | |", "|---|---|---|---|"]
    if recipe:
        lines.append("| `RECIPE` | | | A name in RECIPES, or `--job` and the file of a run. |")
    for option in options(kind, recipe=recipe):
        cells = [f"`{option.name}`", option.values, option.default and f"`{option.default}`"]
        text = literal(" ".join(option.text.split()))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in (*cells, text)) + " |")
    return "\n".join(lines)

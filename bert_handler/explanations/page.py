"""Explanations as HTML: one page without a single reference to anything outside of it.

All that comes from a request passes through `escape`; nothing else makes markup of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from bert_handler.explanations.heat import Cell, View, views

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Which words decided</title>
<style>{style}</style>
</head>
<body>
<main class="bh">
<h1>Which words decided</h1>
{legend}
{sections}
</main>
</body>
</html>
"""
_LEGEND = """<p class="bh-legend"><span><i class="bh-key bh-for"></i>speaks for the target</span>
<span><i class="bh-key bh-against"></i>speaks against it</span>
<span>the stronger the colour, the more; point at a word for its value</span></p>"""


def page(documents: Sequence[Mapping[str, Any]]) -> str:
    """A whole page with one section a document."""
    sections = "\n".join(_section(document) for document in documents)
    return _PAGE.format(style=_style(), legend=_LEGEND, sections=sections)


def fragment(documents: Sequence[Mapping[str, Any]]) -> str:
    """The same for a notebook's cell."""
    sections = "\n".join(_section(document) for document in documents)
    return f'<style>{_style()}</style><div class="bh">{_LEGEND}{sections}</div>'


def _style() -> str:
    return resources.files("bert_handler.explanations").joinpath("page.css").read_text(encoding="utf-8")


def _section(document: Mapping[str, Any]) -> str:
    return '<section class="bh-card">' + "\n".join(_view(view) for view in views(document)) + "</section>"


def _view(view: View) -> str:
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in view.facts.items())
    words = "".join(_word(cell) for cell in view.cells)
    bars = "".join(_bar(cell) for cell in view.top)
    return (
        f'<h2>{escape(view.title)}</h2><dl class="bh-facts">{facts}</dl>'
        f'<p class="bh-text">{words}</p>'
        f'<table class="bh-bars"><caption>Strongest words</caption><tbody>{bars}</tbody></table>'
    )


def _word(cell: Cell) -> str:
    field = f'<span class="bh-field">{escape(cell.field)}</span>' if cell.field else ""
    space = " " if cell.spaced else ""
    return (
        f'{space}{field}<span class="bh-word {_side(cell)}" style="--w:{abs(cell.weight):.3f}" '
        f'title="{cell.importance:+.4f}">{escape(cell.text)}</span>'
    )


def _bar(cell: Cell) -> str:
    return (
        f'<tr class="{_side(cell)}"><th scope="row">{escape(cell.text)}</th>'
        f'<td class="bh-bar"><i style="--w:{abs(cell.weight):.3f}"></i></td><td>{cell.importance:+.3f}</td></tr>'
    )


def _side(cell: Cell) -> str:
    return "bh-against" if cell.importance < 0 else "bh-for"

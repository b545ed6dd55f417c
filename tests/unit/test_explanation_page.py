"""The page: what a request says stays text, and nothing outside of the page is needed."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from bert_handler.commands.explain import show
from bert_handler.explanations.document import Explanation
from bert_handler.explanations.heat import views
from bert_handler.explanations.page import page

DOCUMENT = {
    "words": ["A", "<script>", "film", "."],
    "importances": [0.5, -1.0, 0.25, 0.0],
    "offsets": [[0, 1], [2, 10], [11, 15], [15, 16]],
    "delta": -0.0001,
    "target": "<b>Accepted</b>",
    "score": 0.9,
    "predicted_label": "Accepted",
    "predicted_score": 0.9,
    "method": "integrated_gradients",
    "baseline": "pad",
    "n_steps": 50,
}


class Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def test_what_was_typed_is_text_on_the_page():
    parser = Elements()
    parser.feed(page([DOCUMENT]))
    assert "script" not in parser.tags
    assert "b" not in parser.tags
    assert "A <script> film." in parser.text
    assert "<b>Accepted</b>" in parser.text


def test_the_page_needs_no_network():
    written = page([DOCUMENT, DOCUMENT])
    assert not re.search(r"https?://|url\(|@import|<link|<img|src=", written)
    assert "default-src 'none'" in written
    assert "prefers-color-scheme: dark" in written
    assert written.count('<section class="bh-card">') == 2


def test_words_carry_their_value_and_share():
    (view,) = views(DOCUMENT)
    assert [cell.weight for cell in view.cells] == [0.5, -1.0, 0.25, 0.0]
    assert [cell.text for cell in view.top] == ["<script>", "A", "film"]
    assert [cell.spaced for cell in view.cells] == [False, True, True, False]
    assert view.facts["delta"] == "0.000"
    assert 'title="-1.0000"' in page([DOCUMENT])


def test_both_ends_of_an_answer_are_drawn():
    ends = {
        "importances_answer_start": [1, 0, 0, 0],
        "importances_answer_end": [0, 1, 0, 0],
        "delta_start": 0.0,
        "delta_end": 0.0,
        "fields": ["question", "question", "context", "context"],
    }
    document = {key: value for key, value in DOCUMENT.items() if key not in ("importances", "delta")} | ends
    first, second = views(document)
    assert (first.title, second.title) == ("start of <b>Accepted</b>", "end of <b>Accepted</b>")
    assert [cell.field for cell in first.cells] == ["question", "", "context", ""]


@pytest.mark.parametrize("target", ["plain", "[bold]markup[/bold]"])
def test_the_terminal_shows_the_text_as_it_is(target):
    console = Console(record=True, width=120, force_terminal=True)
    show({**DOCUMENT, "target": target}, console)
    text = console.export_text()
    assert "A <script> film." in text
    assert target in text
    assert "-1.000" in text


def test_a_notebook_shows_the_same():
    drawn = Explanation(DOCUMENT)._repr_html_()
    assert drawn.startswith("<style>")
    assert "&lt;script&gt;" in drawn
    assert "<script>" not in drawn

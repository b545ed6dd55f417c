"""How much text is made of a request, told from the lengths of its own texts alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from bert_handler.errors import RequestTooLargeError

CHARACTERS_A_TOKEN = 8
"""More than the tokens of a natural text have: what is longer, a limit of tokens could not take."""


class Size(NamedTuple):
    """Sequences, and the characters that they have together."""

    n_sequences: int
    n_characters: int


def check_sizes(sizes: Iterable[Size], n_special: int, max_request_tokens: int) -> Size:
    """The size of all instances of a request; RequestTooLargeError where no limit would let it through.

    n_special: special tokens of a sequence.
    """
    n_sequences = n_characters = 0
    for size in sizes:
        n_sequences += size.n_sequences
        n_characters += size.n_characters
    if n_sequences * max(1, n_special) > max_request_tokens or n_characters > CHARACTERS_A_TOKEN * max_request_tokens:
        raise RequestTooLargeError(
            f"the request has {n_sequences} sequences with {n_characters} characters together; max_request_tokens is "
            f"{max_request_tokens}, of at most {CHARACTERS_A_TOKEN} characters each"
        )
    return Size(n_sequences, n_characters)

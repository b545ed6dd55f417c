"""Generated text on its way to the client: how tokens are chosen, and how they become whole characters."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Callable, Optional

from bert_handler.deadlines import remaining_s
from bert_handler.errors import DeadlineError
from bert_handler.schema import Failure, IntArray, Prediction

Watch = Callable[[int, Optional[int]], bool]
"""Called with a row and its new token, None where that is not known yet; returns whether the row shall end."""

OUT_OF_TIME = "the deadline passed before the text was complete"

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Decoding:
    """How the tokens of one row are chosen.

    do_sample: draw from the distribution that temperature, top_k (0: all) and top_p shape, with a
        generator of the row's own that `seed` starts; else take the likeliest token or beam.
    """

    max_new_tokens: int
    num_beams: int = 1
    repetition_penalty: float = 1.0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    seed: int | None = None


@dataclass(frozen=True)
class Generated:
    """The new tokens of one row, int64 (n,), the end token included; `ended` says that there is one.

    overflow: the highest score of a next token where that was no finite number, and ended the row.
    """

    tokens: IntArray
    ended: bool
    overflow: float | None = None


class Detokenizer:
    """Tokens in, text out, in pieces of whole characters; ends before the first stop string.

    decode: token ids to text.  The pieces together are what decoding all tokens at once gives, since
    each is decoded behind the tokens before it: a word's space belongs to the word.
    """

    def __init__(self, decode: Callable[[list[int]], str], stop: Sequence[str] = ()) -> None:
        self.stopped = False
        self._decode = decode
        self._stop = stop
        self._tokens: list[int] = []
        self._context = 0
        self._done = 0
        self._held = ""

    def push(self, token: int) -> str:
        """Add a token; return the text that is certain now, often none."""
        self._tokens.append(token)
        piece = self._undecoded()
        if not piece or piece.endswith(_INCOMPLETE):
            return ""
        self._context, self._done = self._done, len(self._tokens)
        return self._release(piece)

    def finish(self) -> str:
        """Return the rest when no token follows."""
        if self.stopped:
            return ""
        rest = self._release(self._undecoded())
        return rest + self._held

    def _undecoded(self) -> str:
        before = self._decode(self._tokens[self._context : self._done])
        return self._decode(self._tokens[self._context :])[len(before) :]

    def _release(self, piece: str) -> str:
        pending = self._held + piece
        found = [pending.find(stop) for stop in self._stop if stop in pending]
        if found:
            self.stopped, self._held = True, ""
            return pending[: min(found)]
        # The end of the text may be the beginning of a stop string: wait for what follows.
        held = max((n for stop in self._stop for n in range(1, len(stop)) if pending.endswith(stop[:n])), default=0)
        self._held = pending[len(pending) - held :]
        return pending[: len(pending) - held]


class TextStream:
    """An iterator of text pieces, filled by the engine's thread while another one reads.

    Iterating raises the RequestError that ended the generation, if one did.  `close()`, from any
    thread, ends both sides: the engine stops at its next token.  Also a context manager.
    deadline: time.monotonic() at which a reader that waits has a DeadlineError instead.
    wake: called, from any thread, once for each piece and once at the end: the next step of the iterator
        will not block then.
    """

    def __init__(self, deadline: float | None = None, wake: Callable[[], None] | None = None) -> None:
        self.closed = False
        self.deadline = deadline
        self.prediction: Prediction | None = None
        """The whole answer, once the iterator is exhausted."""
        self._wake = wake
        self._pieces: SimpleQueue[str | None] = SimpleQueue()
        self._future: Future[Any] = Future()
        self._finish: Callable[[], Prediction | Failure] | None = None

    def attach(self, future: Future[Any], finish: Callable[[], Prediction | Failure]) -> None:
        """Say when the generation is over, and what makes the prediction of its outcome."""
        self._future, self._finish = future, finish
        future.add_done_callback(lambda _: self._hand_over(None))

    def put(self, piece: str) -> None:
        """Hand a piece to the reader."""
        if piece:
            self._hand_over(piece)

    @property
    def over(self) -> bool:
        """Whether the iterator has nothing more to give."""
        return self.closed or self.prediction is not None

    @property
    def generated(self) -> bool:
        """Whether no piece follows those that wait: what the iterator does at its end may take long."""
        return self._future.done()

    def close(self) -> None:
        """Stop generating; what was not read is lost."""
        self.closed = True
        self._future.cancel()

    def __iter__(self) -> TextStream:
        return self

    def __next__(self) -> str:
        piece = None if self.over else self._next()
        if piece is None or self.closed:
            self._conclude()
            raise StopIteration
        return piece

    def __enter__(self) -> TextStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _hand_over(self, piece: str | None) -> None:
        self._pieces.put(piece)
        if self._wake is not None:
            self._wake()

    def _next(self) -> str | None:
        try:
            return self._pieces.get(timeout=remaining_s(self.deadline))
        except Empty:
            self.close()
            raise DeadlineError(OUT_OF_TIME) from None

    def _conclude(self) -> None:
        if self.over or self._finish is None:
            return
        result = self._finish()
        if isinstance(result, Failure):
            self.closed = True
            raise result.error
        self.prediction = result

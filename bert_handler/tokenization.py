"""Text to token ids with the Rust tokenizer alone, one call for a whole batch.

What AutoTokenizer knows beside tokenizer.json (model inputs, lengths, padding) is kept in
tokenizer_spec.json, so that a server needs neither transformers nor torch to tokenize. A directory
without that file is converted when it is loaded, with transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Callable, NamedTuple, Union

import numpy as np
import tokenizers

from bert_handler import jsonio
from bert_handler.errors import ConfigError, InvalidRequestError, MissingExtraError, RequestTooLargeError
from bert_handler.schema import IntArray, Tokens

TOKENIZER = "tokenizer.json"
TOKENIZER_SPEC = "tokenizer_spec.json"
MAX_WINDOWS = 1024
"""Of one instance: bounds the work that one request can ask for with `truncation: stride`."""

Text = Union[str, tuple[str, str]]

# Position embeddings of these start after the padding index, so two of them are never used.
_OFFSET_POSITIONS = {
    "roberta",
    "xlm-roberta",
    "camembert",
    "mpnet",
    "longformer",
    "xlm-roberta-xl",
    "data2vec-text",
}
# These have relative or rotary positions: the number in the config is no limit of the weights.
_RELATIVE_POSITIONS = {"t5", "mt5", "umt5", "longt5", "deberta-v2", "deberta"}


@dataclass(frozen=True)
class TokenizerSpec:
    """What a model needs to know of its tokenizer beside tokenizer.json.

    input_names: inputs that the model takes, in the tokenizer's order.
    max_length: most tokens of one sequence, special tokens included; None where there is no limit.
    """

    input_names: tuple[str, ...]
    max_length: int | None
    pad_id: int
    pad_type_id: int = 0
    padding_side: str = "right"
    truncation_side: str = "right"
    mask_token: str | None = None
    mask_id: int | None = None
    unk_id: int | None = None
    special_ids: tuple[int, ...] = ()

    @classmethod
    def read(cls, path: Path) -> TokenizerSpec:
        """Read tokenizer_spec.json; ConfigError names the key that is missing or unknown."""
        try:
            content = jsonio.loads(path.read_bytes())
        except ValueError as exc:
            raise ConfigError(f"{path.name} is not JSON: {exc}") from exc
        names = {item.name for item in fields(cls)}
        if not isinstance(content, dict) or not {"input_names", "max_length", "pad_id"} <= set(content) <= names:
            raise ConfigError(f"{path.name} was not written by this version of bert-handler; archive the model again")
        for key, value in content.items():
            if not _SPEC_CHECKS[key](value):
                raise ConfigError(f"{path.name}: {key} has a value that cannot be; archive the model again")
        for key in ("input_names", "special_ids"):
            content[key] = tuple(content.get(key, ()))
        return cls(**content)

    def to_json(self) -> bytes:
        """The content of tokenizer_spec.json."""
        return jsonio.dumps(asdict(self)) + b"\n"


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_SPEC_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "input_names": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    "special_ids": lambda value: isinstance(value, list) and all(map(_is_id, value)),
    "max_length": lambda value: value is None or (_is_id(value) and value > 0),
    "pad_id": _is_id,
    "pad_type_id": _is_id,
    "padding_side": lambda value: value in ("left", "right"),
    "truncation_side": lambda value: value in ("left", "right"),
    "mask_token": lambda value: value is None or isinstance(value, str),
    "mask_id": lambda value: value is None or _is_id(value),
    "unk_id": lambda value: value is None or _is_id(value),
}


class Truncation(NamedTuple):
    """What happens to a text with more tokens than `max_length`.

    mode: error, truncate, or stride (overlapping windows).  stride: tokens that two windows share.
    second_only: of a pair, only the second text is cut (question answering).
    first_only: of a pair, only the first text is cut (the premise of an inference).
    side: which end of a text is cut; None: as the tokenizer was saved.
    """

    mode: str
    max_length: int | None
    stride: int = 64
    second_only: bool = False
    first_only: bool = False
    side: str | None = None


class Encoded(NamedTuple):
    """One text, or pair of texts, as the model will see it.

    windows: index vectors into the full encoding, one an engine row; more than one with stride.
    n_tokens: of the whole text, special tokens included.
    """

    full: Mapping[str, IntArray]
    windows: Sequence[IntArray]
    n_tokens: int
    truncated: bool = False
    encoding: tokenizers.Encoding | None = None

    def inputs(self, window: int) -> Mapping[str, IntArray]:
        """The model inputs of one window."""
        if len(self.windows) == 1 and not self.truncated:
            return self.full
        kept = self.windows[window]
        return {name: values[kept] for name, values in self.full.items()}


_PLACES = np.arange(4096)
_ONES = np.ones(4096, dtype=np.int64)
_PLACES.flags.writeable = _ONES.flags.writeable = False


def _places(n: int) -> IntArray:
    """0 to n - 1.  Most texts are never cut: theirs are views of one array, which nothing can write to."""
    return _PLACES[:n] if n <= len(_PLACES) else np.arange(n)


def _ones(n: int) -> IntArray:
    return _ONES[:n] if n <= len(_ONES) else np.ones(n, dtype=np.int64)


class TextTokenizer:
    """The model's fast tokenizer and what the model needs of its output."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, spec: TokenizerSpec) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.spec = spec
        self.backend = tokenizer
        self.vocabulary_size = tokenizer.get_vocab_size(with_added_tokens=True)
        self._encode_fast = getattr(tokenizer, "encode_batch_fast", tokenizer.encode_batch)

    @classmethod
    def load(
        cls,
        directory: Path,
        model_config: Mapping[str, Any],
        do_lower_case: bool | None,
        *,
        trust_remote_code: bool,
    ) -> TextTokenizer:
        """Load from tokenizer_spec.json and tokenizer.json, else convert with transformers."""
        path = directory / TOKENIZER_SPEC
        if path.is_file():
            return cls(tokenizers.Tokenizer.from_file(str(directory / TOKENIZER)), TokenizerSpec.read(path))
        return convert(directory, model_config, do_lower_case, trust_remote_code=trust_remote_code)

    def encode(
        self, texts: Sequence[Text], truncations: Sequence[Truncation], *, offsets: bool = False
    ) -> list[Encoded | RequestTooLargeError]:
        """Tokenize all texts in one call and cut or window what is too long.

        offsets: whether character offsets are needed; without them the call is faster.
        An error takes the place of a text that may not be cut.
        """
        call = self.backend.encode_batch if offsets else self._encode_fast
        encodings = call(list(texts), add_special_tokens=True)
        return [self._window(encoding, rule) for encoding, rule in zip(encodings, truncations)]

    def join(self, tokens: Sequence[str]) -> str:
        """The text that tokens stand for, as the tokenizer's own decoder joins them."""
        decoder = self.backend.decoder
        return " ".join(tokens) if decoder is None else str(decoder.decode(list(tokens)))

    def from_tokens(self, tokens: Tokens, max_length: int | None) -> Encoded:
        """Check what a client tokenized itself; padding at the end is removed, it only costs time.

        Raises InvalidRequestError on wrong names or ids, RequestTooLargeError on too many tokens.
        """
        given = dict(tokens.inputs)
        ids = given.get("input_ids")
        if ids is None:
            raise InvalidRequestError("input_ids is missing; a tokenized input has at least input_ids")
        unknown_names = sorted(set(given) - {"input_ids", "attention_mask", "token_type_ids"})
        if unknown_names:
            raise InvalidRequestError(
                f"input {unknown_names[0]!r} is unknown; this model takes {', '.join(self.spec.input_names)}"
            )
        mask = given.setdefault("attention_mask", np.ones_like(ids))
        if any(values.shape != ids.shape for values in given.values()):
            raise InvalidRequestError("input_ids, attention_mask and token_type_ids must have the same shape")
        if not len(ids) or not mask.any():
            raise InvalidRequestError("input_ids has no token that attention_mask keeps")
        if ids.min() < 0 or ids.max() >= self.vocabulary_size:
            raise InvalidRequestError(f"input_ids must be between 0 and {self.vocabulary_size - 1}")
        if not np.isin(mask, (0, 1)).all():
            raise InvalidRequestError("attention_mask must hold 0 and 1 only")
        types = given.setdefault("token_type_ids", np.zeros_like(ids))
        if not np.isin(types, (0, 1)).all():
            raise InvalidRequestError("token_type_ids must hold 0 and 1 only")
        length = int(np.flatnonzero(mask)[-1]) + 1
        if max_length is not None and length > max_length:
            raise RequestTooLargeError(f"input_ids has {length} tokens; this model takes at most {max_length}")
        inputs = {name: given[name][:length] for name in self.spec.input_names if name in given}
        return Encoded(inputs, [np.arange(length)], length)

    def _window(self, encoding: tokenizers.Encoding, rule: Truncation) -> Encoded | RequestTooLargeError:
        length = len(encoding.ids)
        full = self._arrays(encoding, length)
        if rule.max_length is None or length <= rule.max_length:
            return Encoded(full, [_places(length)], length, encoding=encoding)
        if rule.mode == "error":
            return RequestTooLargeError(
                f"the text has {length} tokens; this model takes at most {rule.max_length} "
                "(set the parameter truncation to have it cut)"
            )
        sequence_ids = np.array([-1 if item is None else item for item in encoding.sequence_ids])
        try:
            if rule.mode == "stride":
                text = 0 if rule.first_only else None
                windows = strided_windows(sequence_ids, rule.max_length, rule.stride, text)
                return Encoded(full, windows, length, encoding=encoding)
            side = rule.side or self.spec.truncation_side
            kept = truncated_window(sequence_ids, rule.max_length, rule.second_only, side, first_only=rule.first_only)
            return Encoded(full, [kept], length, truncated=True, encoding=encoding)
        except RequestTooLargeError as exc:
            return exc

    def _arrays(self, encoding: tokenizers.Encoding, length: int) -> dict[str, IntArray]:
        arrays = {}
        for name in self.spec.input_names:
            if name == "input_ids":
                arrays[name] = np.array(encoding.ids, dtype=np.int64)
            elif name == "attention_mask":
                arrays[name] = _ones(length)
            elif name == "token_type_ids":
                arrays[name] = np.array(encoding.type_ids, dtype=np.int64)
        return arrays


def truncated_window(
    sequence_ids: IntArray,
    max_length: int,
    second_only: bool,
    side: str = "right",
    *,
    first_only: bool = False,
) -> IntArray:
    """Choose the tokens that stay when one window must do.

    sequence_ids: (L,), 0 and 1 for the first and second text, -1 for special tokens, which all stay.
    Of a pair, the longer text gives way first, until both are as long (`longest_first`).
    Raises RequestTooLargeError when there is no room for any text.
    """
    counts = [int((sequence_ids == 0).sum()), int((sequence_ids == 1).sum())]
    room = max_length - (len(sequence_ids) - sum(counts))
    if second_only or first_only:
        cut = 1 if second_only else 0
        room_left = room - counts[1 - cut]
        _require_room(room_left, max_length)
        kept = list(counts)
        kept[cut] = min(counts[cut], room_left)
    elif counts[1]:
        _require_room(room, max_length)
        short = min(counts)
        fair = (room // 2, room - room // 2) if short > room // 2 else (short, room - short)
        kept = list(fair) if counts[0] <= counts[1] else [fair[1], fair[0]]
    else:
        _require_room(room, max_length)
        kept = [room, 0]
    keep = sequence_ids == -1
    for sequence, count in enumerate(kept):
        positions = np.flatnonzero(sequence_ids == sequence)
        keep[positions[len(positions) - count :] if side == "left" else positions[:count]] = True
    return np.flatnonzero(keep)


def strided_windows(
    sequence_ids: IntArray, max_length: int, stride: int, sequence: int | None = None
) -> list[IntArray]:
    """Cut one text, by default the last, into windows that overlap by `stride` tokens.

    All else is in every window.

    The overlap shrinks to half of the room where the first text leaves less, so that every window
    moves on.  Raises RequestTooLargeError when there is no room, or more than MAX_WINDOWS are needed.
    """
    cut = sequence_ids.max() if sequence is None else sequence
    text = np.flatnonzero(sequence_ids == cut)
    rest = np.flatnonzero(sequence_ids != cut)
    room = max_length - len(rest)
    _require_room(room, max_length)
    step = room - min(stride, room // 2)
    count = max(1, -(-(len(text) - room) // step) + 1)
    if count > MAX_WINDOWS:
        raise RequestTooLargeError(f"the text needs {count} windows; at most {MAX_WINDOWS} are computed")
    return [np.sort(np.concatenate([rest, text[i * step : i * step + room]])) for i in range(count)]


def convert(
    directory: Path,
    model_config: Mapping[str, Any],
    do_lower_case: bool | None,
    *,
    trust_remote_code: bool = False,
) -> TextTokenizer:
    """Load a tokenizer with transformers, whatever files it was saved in, and keep its Rust core.

    Raises ConfigError where the tokenizer has no fast form: its offsets could not be trusted.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as exc:
        raise MissingExtraError("transformers", "torch") from exc
    options = {} if do_lower_case is None else {"do_lower_case": do_lower_case}
    try:
        loaded = AutoTokenizer.from_pretrained(
            str(directory), local_files_only=True, trust_remote_code=trust_remote_code, **options
        )
    except Exception as exc:
        raise ConfigError(f"the tokenizer of {directory.name} cannot be loaded: {exc}") from exc
    if not getattr(loaded, "is_fast", False):
        raise ConfigError(
            f"{type(loaded).__name__} is a slow tokenizer without offsets; save the model with its tokenizer.json"
        )
    return TextTokenizer(
        tokenizers.Tokenizer.from_str(loaded.backend_tokenizer.to_str()), _spec_of(loaded, model_config)
    )


def _spec_of(loaded: Any, model_config: Mapping[str, Any]) -> TokenizerSpec:
    pad_id = loaded.pad_token_id if loaded.pad_token_id is not None else loaded.eos_token_id
    return TokenizerSpec(
        input_names=_input_names(loaded, model_config),
        max_length=_max_length(int(loaded.model_max_length), model_config),
        pad_id=int(pad_id or 0),
        pad_type_id=int(getattr(loaded, "pad_token_type_id", 0) or 0),
        padding_side=loaded.padding_side,
        truncation_side=loaded.truncation_side,
        mask_token=None if loaded.mask_token is None else str(loaded.mask_token),
        mask_id=None if loaded.mask_token is None else loaded.mask_token_id,
        unk_id=None if loaded.unk_token is None else loaded.unk_token_id,
        special_ids=tuple(sorted(loaded.all_special_ids)),
    )


def _input_names(loaded: Any, model_config: Mapping[str, Any]) -> tuple[str, ...]:
    names = tuple(loaded.model_input_names)
    if "token_type_ids" in names or "model_input_names" in loaded.init_kwargs:
        return names
    # transformers 5 leaves them out by default, for ALBERT among others: pairs would be read as one text.
    has_segments = int(model_config.get("type_vocab_size") or 0) > 1
    pair = loaded.backend_tokenizer.encode("a", "b")
    return (*names, "token_type_ids") if has_segments and 1 in pair.type_ids else names


def _max_length(stated: int, model_config: Mapping[str, Any]) -> int | None:
    limits = [stated] if stated < 10**6 else []
    model_type = str(model_config.get("model_type", ""))
    positions = model_config.get("max_position_embeddings", model_config.get("n_positions"))
    if isinstance(positions, int) and positions > 0 and model_type not in _RELATIVE_POSITIONS:
        limits.append(positions - 2 if model_type in _OFFSET_POSITIONS else positions)
    return min(limits) if limits else None


def _require_room(room: int, max_length: int) -> None:
    if room < 1:
        raise RequestTooLargeError(f"no token of the text fits beside what must stay in {max_length} tokens")

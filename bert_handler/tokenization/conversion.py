"""A tokenizer as transformers saved it, in whatever files, to its Rust core and what a model needs to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers.normalizers import BertNormalizer

from bert_handler.errors import ConfigError, MissingExtraError
from bert_handler.tokenization.spec import TokenizerSpec

# Position embeddings of these start after the padding index, so two of them are never used.
_OFFSET_POSITIONS = {
    "roberta",
    "xlm-roberta",
    "camembert",
    "mpnet",
    "longformer",
    "xlm-roberta-xl",
    "data2vec-text",
    "roberta-prelayernorm",
    "xmod",
    "ibert",
    "luke",
    "layoutlmv3",
    "markuplm",
}
# These have relative or rotary positions: the number in the config is no limit of the weights.
_RELATIVE_POSITIONS = {"t5", "mt5", "umt5", "longt5", "deberta-v2", "deberta"}


def convert(
    directory: Path,
    model_config: Mapping[str, Any],
    do_lower_case: bool | None,
    *,
    trust_remote_code: bool = False,
) -> tuple[tokenizers.Tokenizer, TokenizerSpec]:
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
        raise ConfigError(f"the tokenizer of {directory.resolve().name} cannot be loaded: {exc}") from exc
    if not getattr(loaded, "is_fast", False):
        raise ConfigError(
            f"{type(loaded).__name__} is a slow tokenizer without offsets; save the model with its tokenizer.json"
        )
    spec = _spec_of(loaded, model_config)
    lowers = _lowers(loaded.backend_tokenizer) if do_lower_case is None else do_lower_case
    return tokenizers.Tokenizer.from_str(loaded.backend_tokenizer.to_str()), replace(spec, do_lower_case=lowers)


def set_lower_case(tokenizer: tokenizers.Tokenizer, spec: TokenizerSpec, lower: bool) -> TokenizerSpec:
    """Have a converted tokenizer lower-case texts, or not, as transformers would have converted it.

    Raises ConfigError where its normalizer is none that can be told.
    """
    own = tokenizer.normalizer
    if isinstance(own, BertNormalizer):
        rest = {name: getattr(own, name) for name in ("clean_text", "handle_chinese_chars", "strip_accents")}
        tokenizer.normalizer = BertNormalizer(lowercase=lower, **rest)
        return replace(spec, do_lower_case=lower)
    if spec.do_lower_case is not None:
        raise ConfigError(
            f"setting do_lower_case={lower}, but the model's tokenizer.json was made with {spec.do_lower_case}; "
            "archive the model again with this setting"
        )
    return spec


def _lowers(tokenizer: Any) -> bool:
    return tokenizer.normalizer is not None and "a" in tokenizer.normalizer.normalize_str("A")


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

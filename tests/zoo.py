"""Tiny seeded models with real tokenizers, one of each architecture and head that is served.

Nothing is downloaded: each tokenizer is trained on `CORPUS`, each weight drawn from a seed of its
name, so that transformers 4 and 5 build the same models.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

MAX_LENGTH = 48
"""Tokens of one sequence, special tokens included."""

CORPUS = (
    "The quick brown fox jumps over the lazy dog.",
    "Angela Merkel met Barack Obama in Berlin on Monday, and they talked for two hours.",
    "My name is Wolfgang and I live in Berlin, but I work at Siemens in Munich.",
    "Apple Inc. was founded by Steve Jobs and Steve Wozniak in Cupertino, California.",
    "The film was good, the acting was better, and the music was the best of the year.",
    "A bad film: nobody laughed, nobody cried, and half of the audience left early.",
    "Where do I live? I live in a house by the river, not far from the old bridge.",
    "Paris is the capital of France; London is the capital of the United Kingdom.",
    "HuggingFace is a company based in New York City and in Paris.",
    "Don't worry, it's only a test: state-of-the-art, e-mail, U.S.A., 3.14, $20, 50%.",
    "In 1969 Neil Armstrong walked on the Moon; in 2021 a helicopter flew on Mars.",
    "The café in Zürich serves naïve crème brûlée to Ångström and Dvořák.",
    "El niño pequeño come una manzana y bebe agua fría en Málaga.",
    "東京は日本の首都です。 北京是中国的首都。 서울은 한국의 수도입니다.",
    "القاهرة هي عاصمة مصر وأكبر مدينة في أفريقيا.",
    "ירושלים היא עיר עתיקה מאוד.",
    "Москва является столицей России.",
    "I love it 😀 😀 and she loves it too 🎉, says the 👩‍🔬 in the lab.",
    "Results were delivered late, which disappointed customers and suppliers alike.",
    "She sells sea shells on the sea shore, and the shells she sells are surely sea shells.",
    "The government announced new measures to support small businesses this winter.",
    "Scientists at the University of Oxford published their findings in Nature.",
    "What is the answer to the question? The answer is forty-two, of course.",
    "Ben and Anna play football in the park while their children read books.",
)

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "ORG")


def _word_piece(special: Sequence[str], unknown: str, *, lower: bool) -> tokenizers.Tokenizer:
    normalizer, splitter = normalizers.BertNormalizer(lowercase=lower), pre_tokenizers.BertPreTokenizer()
    pieces = _pieces(normalizer, splitter, 450)
    vocabulary = [*special, *pieces, *(f"##{piece}" for piece in pieces)]
    model = models.WordPiece({piece: i for i, piece in enumerate(vocabulary)}, unk_token=unknown)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _byte_level(special: Sequence[str]) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    _train(tokenizer, 600, special, pre_tokenizers.ByteLevel.alphabet())
    return tokenizer


def _unigram(
    special: Sequence[str], last: Sequence[str] = (), normalizer: Any = None, *, split: bool = True
) -> tokenizers.Tokenizer:
    normalizer = normalizer or normalizers.NFKC()
    splits = [pre_tokenizers.WhitespaceSplit()] if split else []
    splitter = pre_tokenizers.Sequence([*splits, pre_tokenizers.Metaspace()])
    text = " ".join("▁".join(["", *normalizer.normalize_str(line).split()]) for line in CORPUS)
    counts = {piece: text.count(piece) or 1 for piece in _pieces(normalizer, splitter, 450)}
    total = sum(counts.values())
    scored = [(piece, math.log(count / total)) for piece, count in counts.items()]
    vocabulary = [(token, 0.0) for token in special] + scored + [(token, 0.0) for token in last]
    unknown = next(i for i, token in enumerate(special) if "unk" in token.lower())
    tokenizer = tokenizers.Tokenizer(models.Unigram(vocabulary, unknown))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def _pieces(normalizer: Any, splitter: Any, size: int) -> list[str]:
    """Frequent pieces of the corpus's words, sorted.

    The trainers of WordPiece and Unigram settle ties at random; this one does not, so every run
    tests the same vocabulary.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    _train(tokenizer, size, (), [])
    return sorted(tokenizer.get_vocab())


def _train(tokenizer: tokenizers.Tokenizer, size: int, special: Sequence[str], alphabet: Sequence[str]) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(special), initial_alphabet=list(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)


def _template(tokenizer: tokenizers.Tokenizer, single: str, pair: str, *special: str) -> tokenizers.Tokenizer:
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(token, tokenizer.token_to_id(token)) for token in special]
    )
    return tokenizer


BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
BERT_TEMPLATE = ("[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", "[CLS]", "[SEP]")
ROBERTA_TEMPLATE = ("<s> $A </s>", "<s> $A </s> </s> $B </s>", "<s>", "</s>")


def _bert_tokenizer() -> tokenizers.Tokenizer:
    return _template(_word_piece(BERT_SPECIAL, "[UNK]", lower=True), *BERT_TEMPLATE)


def _cased_tokenizer() -> tokenizers.Tokenizer:
    return _template(_word_piece(BERT_SPECIAL, "[UNK]", lower=False), *BERT_TEMPLATE)


def _mpnet_tokenizer() -> tokenizers.Tokenizer:
    special = ("<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>")
    return _template(_word_piece(special, "[UNK]", lower=True), *ROBERTA_TEMPLATE)


def _roberta_tokenizer() -> tokenizers.Tokenizer:
    tokenizer = _byte_level(ROBERTA_SPECIAL)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", tokenizer.token_to_id("</s>")), ("<s>", tokenizer.token_to_id("<s>")), add_prefix_space=False
    )
    return tokenizer


def _modernbert_tokenizer() -> tokenizers.Tokenizer:
    tokenizer = _byte_level(BERT_SPECIAL)
    tokenizer.normalizer = normalizers.NFC()
    return _template(tokenizer, *BERT_TEMPLATE)


def _xlm_roberta_tokenizer() -> tokenizers.Tokenizer:
    return _template(_unigram(ROBERTA_SPECIAL[:4], ["<mask>"]), *ROBERTA_TEMPLATE)


def _albert_tokenizer() -> tokenizers.Tokenizer:
    steps = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD()]
    normalizer = normalizers.Sequence([*steps, normalizers.StripAccents(), normalizers.Lowercase()])
    special = ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
    return _template(_unigram(special, normalizer=normalizer), *BERT_TEMPLATE)


def _deberta_tokenizer() -> tokenizers.Tokenizer:
    special = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
    spaces = normalizers.Replace(tokenizers.Regex(r"\s{2,}|[\n\r\t]"), " ")
    normalizer = normalizers.Sequence([spaces, normalizers.NFC(), normalizers.Strip(left=False, right=True)])
    return _template(_unigram(special, ["[MASK]"], normalizer, split=False), *BERT_TEMPLATE)


def _gpt2_tokenizer() -> tokenizers.Tokenizer:
    tokenizer = _byte_level(["<|endoftext|>"])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def _t5_tokenizer() -> tokenizers.Tokenizer:
    sentinels = [f"<extra_id_{i}>" for i in reversed(range(100))]
    tokenizer = _unigram(("<pad>", "</s>", "<unk>"), sentinels)
    return _template(tokenizer, "$A </s>", "$A </s> $B </s>", "</s>")


_BERT_NAMES = dict(zip(("pad", "unk", "cls", "sep", "mask"), BERT_SPECIAL))
_ROBERTA_NAMES = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
_EDGES = {"bos": "<s>", "eos": "</s>"}

# Class of the tokenizer as published checkpoints state it, how it is trained, its special tokens by role.
TOKENIZERS: dict[str, tuple[str, Callable[[], tokenizers.Tokenizer], dict[str, str]]] = {
    "bert": ("BertTokenizerFast", _bert_tokenizer, _BERT_NAMES),
    "distilbert": ("DistilBertTokenizerFast", _bert_tokenizer, _BERT_NAMES),
    "electra": ("ElectraTokenizerFast", _cased_tokenizer, _BERT_NAMES),
    "mpnet": ("MPNetTokenizerFast", _mpnet_tokenizer, {**_ROBERTA_NAMES, **_EDGES, "unk": "[UNK]"}),
    "roberta": ("RobertaTokenizerFast", _roberta_tokenizer, {**_ROBERTA_NAMES, **_EDGES}),
    "xlm-roberta": ("XLMRobertaTokenizerFast", _xlm_roberta_tokenizer, {**_ROBERTA_NAMES, **_EDGES}),
    "albert": (
        "AlbertTokenizerFast",
        _albert_tokenizer,
        {**_BERT_NAMES, "pad": "<pad>", "unk": "<unk>", "bos": "[CLS]", "eos": "[SEP]"},
    ),
    "deberta-v2": (
        "DebertaV2TokenizerFast",
        _deberta_tokenizer,
        {**_BERT_NAMES, "bos": "[CLS]", "eos": "[SEP]"},
    ),
    "modernbert": ("PreTrainedTokenizerFast", _modernbert_tokenizer, _BERT_NAMES),
    "gpt2": ("GPT2TokenizerFast", _gpt2_tokenizer, dict.fromkeys(("bos", "eos", "unk"), "<|endoftext|>")),
    "t5": ("T5TokenizerFast", _t5_tokenizer, {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}),
}

ENCODERS = (
    "bert",
    "distilbert",
    "roberta",
    "xlm-roberta",
    "albert",
    "electra",
    "mpnet",
    "deberta-v2",
    "modernbert",
)
GENERATORS = ("gpt2", "t5")

HEADS = {
    "sequence_classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "question_answering": "AutoModelForQuestionAnswering",
    "fill_mask": "AutoModelForMaskedLM",
    "embedding": "AutoModel",
    "causal": "AutoModelForCausalLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
}
"""Heads by name; `generation` is `causal` or `seq2seq`, as the architecture has it."""

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": MAX_LENGTH,
}
_OWN_SIZES: dict[str, dict[str, Any]] = {
    "distilbert": {
        "dim": 32,
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dim": 64,
        "max_position_embeddings": MAX_LENGTH,
    },
    "roberta": {**_SIZES, "max_position_embeddings": MAX_LENGTH + 2, "type_vocab_size": 1},
    "xlm-roberta": {**_SIZES, "max_position_embeddings": MAX_LENGTH + 2, "type_vocab_size": 1},
    "mpnet": {**_SIZES, "max_position_embeddings": MAX_LENGTH + 2},
    "albert": {**_SIZES, "embedding_size": 16},
    "electra": {**_SIZES, "embedding_size": 16},
    "deberta-v2": {
        **_SIZES,
        "type_vocab_size": 0,
        "relative_attention": True,
        "position_buckets": 8,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "position_biased_input": False,
    },
    "modernbert": {
        **_SIZES,
        "local_attention": 16,
        "global_attn_every_n_layers": 2,
        "reference_compile": False,
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128},
    "t5": {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
}


def build(architecture: str, head: str, directory: Path, **config: Any) -> Path:
    """Save a tiny model and its tokenizer in `directory`.

    architecture: a model type, one of ENCODERS or GENERATORS.  head: one of HEADS, or `generation`.
    config: of the model's configuration, over the tiny sizes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = save_tokenizer(architecture, directory)
    save_model(architecture, head, directory, tokenizer, config)
    return directory


def save_tokenizer(architecture: str, directory: Path) -> Any:
    """Train the architecture's tokenizer, save it as its transformers class does, and return that."""
    import transformers

    class_name, train, roles = TOKENIZERS[architecture]
    train().save(str(directory / "tokenizer.json"))
    settings: dict[str, Any] = {f"{role}_token": token for role, token in roles.items()}
    if "mask" in roles and architecture in {"roberta", "xlm-roberta", "albert", "mpnet", "modernbert"}:
        settings["mask_token"] = {
            "__type": "AddedToken",
            "content": roles["mask"],
            "lstrip": True,
            "rstrip": False,
            "normalized": False,
            "single_word": False,
            "special": True,
        }
    settings["tokenizer_class"] = class_name
    settings["model_max_length"] = 128 if architecture in GENERATORS else MAX_LENGTH
    if architecture in {"bert", "distilbert", "electra", "mpnet"}:
        settings["do_lower_case"] = architecture != "electra"
    if architecture in {"distilbert", "modernbert"}:
        settings["model_input_names"] = ["input_ids", "attention_mask"]
    (directory / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    loaded = transformers.AutoTokenizer.from_pretrained(str(directory))
    loaded.save_pretrained(str(directory))
    return loaded


def save_model(architecture: str, head: str, directory: Path, tokenizer: Any, settings: dict[str, Any]) -> None:
    """Save a model of tiny size for a tokenizer, its weights drawn from a seed."""
    import torch
    import transformers

    if head == "generation":
        head = "seq2seq" if architecture == "t5" else "causal"
    sizes = {**_OWN_SIZES.get(architecture, _SIZES), **_token_ids(tokenizer), "vocab_size": len(tokenizer)}
    if head == "token_classification" and "num_labels" not in settings:
        sizes |= {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
    transformers.utils.logging.disable_progress_bar()
    config = transformers.AutoConfig.for_model(architecture, **{**sizes, **settings})
    model = getattr(transformers, HEADS[head]).from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(_draw(name, weight))
    model.save_pretrained(str(directory))


def _token_ids(tokenizer: Any) -> dict[str, int]:
    roles = ("pad", "bos", "eos", "cls", "sep")
    ids = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id", None) for role in roles}
    # ModernBERT's configuration has ids of its full vocabulary as defaults.
    ids["bos_token_id"] = ids["cls_token_id"] if ids["bos_token_id"] is None else ids["bos_token_id"]
    ids["eos_token_id"] = ids["sep_token_id"] if ids["eos_token_id"] is None else ids["eos_token_id"]
    if "T5" in type(tokenizer).__name__:
        ids["decoder_start_token_id"] = tokenizer.pad_token_id
    return {name: value for name, value in ids.items() if value is not None}


def _draw(name: str, weight: Any) -> Any:
    import torch

    # One seed a name: the order in which a version of transformers lists them does not matter.
    values = torch.randn(weight.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if weight.ndim > 1:
        return values * 0.4
    return 1 + 0.1 * values if name.endswith("weight") else 0.1 * values

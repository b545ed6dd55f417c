"""Token ids, truncation, windows and offsets, compared with AutoTokenizer on every architecture."""

from __future__ import annotations

import json
import shutil
import unicodedata

import numpy as np
import pytest
import tokenizers
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import models

from bert_handler import Predictor
from bert_handler.errors import ConfigError, InvalidRequestError, RequestTooLargeError
from bert_handler.schema import Tokens
from bert_handler.tokenization import Encoded, TextTokenizer
from bert_handler.tokenization.conversion import convert
from bert_handler.tokenization.spec import TokenizerSpec
from bert_handler.tokenization.truncation import MAX_WINDOWS, Truncation, strided_windows, truncated_window
from tests.zoo import CORPUS, ENCODERS, GENERATORS

SCRIPTS = st.sampled_from(
    [
        *"aeZ9.,'-",
        " ",
        "\r\n",
        "\t",
        "e\u0301",  # a combining accent
        "Zu\u0308rich",
        "ñ",
        "😀",
        "👩\u200d🔬",  # three code points, one sign
        "東京",
        "が",
        "القاهرة",
        "שלום",
        "ǂ",  # in no vocabulary
        "Berlin",
        "Angela Merkel",
    ]
)
TEXTS = st.lists(SCRIPTS, max_size=40).map("".join)

pytestmark = pytest.mark.filterwarnings("ignore:Asking to truncate")


@pytest.fixture(scope="module")
def tokenizer_of(zoo):
    made = {}

    def get(architecture):
        if architecture not in made:
            directory = zoo(architecture, "generation" if architecture in GENERATORS else "embedding")
            model_config = json.loads((directory / "config.json").read_text())
            made[architecture] = (
                TextTokenizer(*convert(directory, model_config, None)),
                transformers.AutoTokenizer.from_pretrained(directory),
            )
        return made[architecture]

    return get


def encode(tokenizer: TextTokenizer, text, mode="truncate", max_length=None, **rule) -> Encoded:
    found = tokenizer.encode([text], [Truncation(mode, max_length, **rule)], offsets=True)[0]
    if isinstance(found, RequestTooLargeError):
        raise found
    return found


def ids(found: Encoded) -> list[list[int]]:
    return [found.inputs(i)["input_ids"].tolist() for i in range(len(found.windows))]


def examples(n: int):
    return settings(
        max_examples=n,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@pytest.mark.parametrize("architecture", ENCODERS)
def test_limits_and_inputs_are_the_models(architecture, tokenizer_of):
    spec = tokenizer_of(architecture)[0].spec
    assert spec.max_length == 48
    segments = architecture in {"bert", "albert", "electra", "deberta-v2"}
    assert set(spec.input_names) == {"input_ids", "attention_mask"} | ({"token_type_ids"} if segments else set())


@examples(40)
@given(text=TEXTS, max_length=st.integers(3, 30))
@pytest.mark.parametrize("architecture", ENCODERS)
def test_truncates_as_autotokenizer(architecture, text, max_length, tokenizer_of):
    mine, theirs = tokenizer_of(architecture)
    expected = theirs(text, truncation=True, max_length=max_length)["input_ids"]
    found = encode(mine, text, max_length=max_length)
    assert ids(found) == [expected]
    assert found.n_tokens == len(theirs(text)["input_ids"])
    assert found.truncated == (found.n_tokens > max_length)


@examples(40)
@given(first=TEXTS, second=TEXTS, max_length=st.integers(6, 30))
@pytest.mark.parametrize("architecture", ENCODERS)
def test_truncates_pairs_as_autotokenizer(architecture, first, second, max_length, tokenizer_of):
    mine, theirs = tokenizer_of(architecture)
    # A list of pairs: of a single call with an empty second text, AutoTokenizer makes no pair.
    expected = theirs([(first, second)], truncation="longest_first", max_length=max_length, return_token_type_ids=True)
    found = encode(mine, (first, second), max_length=max_length)
    assert ids(found) == expected["input_ids"]
    if "token_type_ids" in mine.spec.input_names:
        assert found.inputs(0)["token_type_ids"].tolist() == expected["token_type_ids"][0]


@examples(30)
@given(text=TEXTS, max_length=st.integers(8, 30), stride=st.integers(0, 3))
@pytest.mark.parametrize("architecture", ENCODERS)
def test_windows_are_those_of_autotokenizer(architecture, text, max_length, stride, tokenizer_of):
    mine, theirs = tokenizer_of(architecture)
    expected = theirs(text, truncation=True, max_length=max_length, stride=stride, return_overflowing_tokens=True)
    found = encode(mine, text, "stride", max_length, stride=stride)
    assert ids(found) == expected["input_ids"]
    assert not found.truncated


@examples(30)
@given(context=TEXTS, stride=st.integers(0, 8))
@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta", "deberta-v2"])
def test_windows_of_a_context_are_those_of_autotokenizer(architecture, context, stride, tokenizer_of):
    mine, theirs = tokenizer_of(architecture)
    expected = theirs(
        ["Where?"], [context], truncation="only_second", max_length=32, stride=stride, return_overflowing_tokens=True
    )["input_ids"]
    assert ids(encode(mine, ("Where?", context), "stride", 32, stride=stride, cut=1)) == expected
    cut = encode(mine, ("Where?", context), "truncate", 32, cut=1)
    assert ids(cut) == expected[:1]


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_truncates_at_the_left_where_the_tokenizer_does(architecture, tokenizer_of, zoo):
    mine, _ = tokenizer_of(architecture)
    theirs = transformers.AutoTokenizer.from_pretrained(zoo(architecture, "embedding"), truncation_side="left")
    left = TextTokenizer(mine.backend, TokenizerSpec(**{**vars(mine.spec), "truncation_side": "left"}))
    for text in CORPUS[:5]:
        assert ids(encode(left, text, max_length=9)) == [theirs(text, truncation=True, max_length=9)["input_ids"]]


@examples(60)
@given(text=TEXTS)
@pytest.mark.parametrize("architecture", ENCODERS)
def test_offsets_point_at_what_each_token_stands_for(architecture, text, tokenizer_of):
    mine, theirs = tokenizer_of(architecture)
    encoding = encode(mine, text).encoding
    assert encoding.offsets == theirs(text, return_offsets_mapping=True)["offset_mapping"]
    spans = [span for span, special in zip(encoding.offsets, encoding.special_tokens_mask) if not special]
    assert [start for start, _ in spans] == sorted(start for start, _ in spans)
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    covered = {place for start, end in spans for place in range(start, end)}
    # Byte-level and Unigram tokenizers may give a space to no token, none of them loses a letter.
    assert {i for i, character in enumerate(text) if unicodedata.category(character)[0] in "LNS"} <= covered


@examples(60)
@given(text=TEXTS)
@pytest.mark.parametrize("architecture", ["bert", "electra", "mpnet"])
def test_the_text_under_a_token_is_the_token(architecture, text, tokenizer_of):
    mine, _ = tokenizer_of(architecture)
    encoding = encode(mine, text).encoding
    for token, token_id, (start, end), special in zip(
        encoding.tokens, encoding.ids, encoding.offsets, encoding.special_tokens_mask
    ):
        if not special and token_id != mine.spec.unk_id:
            assert mine.backend.normalizer.normalize_str(text[start:end]).strip() == token.replace("##", "")


@pytest.mark.parametrize("architecture", ENCODERS)
def test_one_call_gives_what_single_calls_give(architecture, tokenizer_of):
    mine, _ = tokenizer_of(architecture)
    texts = [*CORPUS, "", " ", ("a", "b")]
    rules = [Truncation("truncate", 20)] * len(texts)
    fast = mine.encode(texts, rules)
    for text, one in zip(texts, fast):
        assert ids(one) == ids(encode(mine, text, max_length=20))


SHARED = [
    ("a", "b"),
    ("a", ""),
    ("", ""),
    *((text, CORPUS[0]) for text in CORPUS[::4]),
    *((" ".join(CORPUS[:2]), text) for text in ["", " ", "東京 😀", "[MASK] </s>", *CORPUS[1::4]]),
]


@pytest.mark.parametrize(
    "rule",
    [
        {"mode": "truncate", "max_length": None},
        {"mode": "truncate", "max_length": 20},
        {"mode": "truncate", "max_length": 20, "side": "left"},
        {"mode": "truncate", "max_length": 20, "cut": 0},
        {"mode": "stride", "max_length": 30, "stride": 4},
        {"mode": "stride", "max_length": 30, "stride": 4, "cut": 0},
        {"mode": "error", "max_length": 20},
    ],
    ids=lambda rule: " ".join(map(str, rule.values())),
)
@pytest.mark.parametrize("architecture", [*ENCODERS, *GENERATORS])
def test_pairs_that_share_a_text_are_what_each_is_alone(architecture, rule, tokenizer_of):
    mine, _ = tokenizer_of(architecture)
    rules = [Truncation(**rule)] * len(SHARED)
    for found, alone in zip(mine.encode_pairs(SHARED, rules), mine.encode(SHARED, rules, offsets=True)):
        if isinstance(alone, RequestTooLargeError):
            assert str(found) == str(alone)
            continue
        assert (found.n_tokens, found.truncated, len(found.windows)) == (
            alone.n_tokens,
            alone.truncated,
            len(alone.windows),
        )
        for window in range(len(alone.windows)):
            expected = {name: values.tolist() for name, values in alone.inputs(window).items()}
            assert {name: values.tolist() for name, values in found.inputs(window).items()} == expected


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_a_text_of_many_pairs_is_tokenized_once_and_kept_as_far_as_the_model_takes_it(
    architecture, tokenizer_of, monkeypatch
):
    mine, _ = tokenizer_of(architecture)
    seen, call = [], mine._encode_fast
    monkeypatch.setattr(mine, "_encode_fast", lambda texts, **options: seen.extend(texts) or call(texts, **options))
    long = "東京 " * 5000
    pairs = [(long, f"film {i % 7} 京") for i in range(100)]
    found = mine.encode_pairs(pairs, [Truncation("truncate", 20)] * len(pairs))
    assert sorted(seen) == sorted({text for pair in pairs for text in pair})
    assert all(item.n_tokens > 5000 and item.truncated for item in found)
    assert sum(values.size for item in found for values in item.full.values()) <= 100 * 20 * 3


def test_pairs_of_a_tokenizer_that_has_no_latin_letters():
    backend = tokenizers.Tokenizer(models.BPE({"東": 0, "京": 1}, []))
    mine = TextTokenizer(backend, TokenizerSpec(("input_ids",), None, 0))
    pairs = [("東", "京京"), ("東", "京a")]
    found = mine.encode_pairs(pairs, [Truncation("truncate", None)] * 2)
    assert [ids(item) for item in found] == [[[0, 1, 1]], [[0, 1]]]


@pytest.mark.parametrize(
    ("counts", "max_length", "kept"),
    [
        ((10, 0), 6, (4, 0)),
        ((10, 10), 9, (3, 3)),
        ((10, 10), 10, (3, 4)),
        ((2, 10), 9, (2, 4)),
        ((10, 2), 9, (4, 2)),
        ((10, 3), 8, (3, 2)),
    ],
)
def test_the_longer_text_gives_way_first(counts, max_length, kept):
    first, second = counts
    # [CLS] first [SEP], and second [SEP] where there is one
    sequence_ids = np.array([-1, *[0] * first, -1, *([1] * second + [-1] if second else [])])
    window = truncated_window(sequence_ids, Truncation("truncate", max_length))
    assert tuple(int((sequence_ids[window] == i).sum()) for i in (0, 1)) == kept
    assert len(window) <= max_length


@examples(200)
@given(n=st.integers(1, 300), max_length=st.integers(3, 40), stride=st.integers(0, 64))
def test_windows_cover_every_token_and_end(n, max_length, stride):
    sequence_ids = np.array([-1, *[0] * n, -1])
    windows = strided_windows(sequence_ids, Truncation("stride", max_length, stride))
    assert set(np.concatenate(windows).tolist()) == set(range(n + 2))
    assert all(len(window) <= max_length for window in windows)
    assert all({0, n + 1} <= set(window.tolist()) for window in windows)
    assert all(windows[i + 1][1] > windows[i][1] for i in range(len(windows) - 1))


def test_there_is_a_most_of_windows():
    sequence_ids = np.array([-1, *[0] * (MAX_WINDOWS + 1), -1])
    with pytest.raises(RequestTooLargeError, match=f"{MAX_WINDOWS + 1} windows"):
        strided_windows(sequence_ids, Truncation("stride", 3, 0))


def test_a_text_that_may_not_be_cut_is_an_error_in_its_place(tokenizer_of):
    mine, _ = tokenizer_of("bert")
    found = mine.encode(["a", "a b c d"], [Truncation("error", 4)] * 2)
    assert ids(found[0])
    assert isinstance(found[1], RequestTooLargeError)
    assert "text has 6 tokens; this model takes at most 4" in str(found[1])


@pytest.mark.parametrize("mode", ["truncate", "stride"])
def test_a_first_text_that_leaves_no_room_is_an_error(mode, tokenizer_of):
    rule = {"max_length": 9, "cut": 1, "names": ("question", "context")}
    with pytest.raises(RequestTooLargeError, match="no token of context fits beside question in 9 tokens"):
        encode(tokenizer_of("bert")[0], ("a b c d e f", "g"), mode, **rule)


@pytest.mark.parametrize(("left", "right"), [(0, 0), (0, 2), (3, 0), (1, 2)])
def test_client_tokens_lose_their_padding_and_gain_what_is_missing(tokenizer_of, left, right):
    mine, _ = tokenizer_of("bert")
    ids, mask = np.pad([2, 9, 3], (left, right)), np.pad([1, 1, 1], (left, right))
    given_ids = {"input_ids": ids, "attention_mask": mask}
    found = mine.from_tokens(Tokens(given_ids), 48)
    assert {name: values.tolist() for name, values in found.full.items()} == {
        "input_ids": [2, 9, 3],
        "attention_mask": [1, 1, 1],
        "token_type_ids": [0, 0, 0],
    }


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"attention_mask": [1]}, "input_ids is missing"),
        ({"input_ids": [2], "position_ids": [0]}, "'position_ids' is unknown"),
        ({"input_ids": [2, 3], "attention_mask": [1]}, "same shape"),
        ({"input_ids": []}, "no token"),
        ({"input_ids": [2], "attention_mask": [0]}, "no token"),
        ({"input_ids": [-1]}, "between 0 and"),
        ({"input_ids": [100_000]}, "between 0 and"),
        ({"input_ids": [2], "attention_mask": [2]}, "0 and 1 only"),
        ({"input_ids": [2], "token_type_ids": [2]}, "0 and 1 only"),
    ],
)
def test_wrong_client_tokens_are_refused(inputs, message, tokenizer_of):
    tokens = Tokens({name: np.array(values, dtype=np.int64) for name, values in inputs.items()})
    with pytest.raises(InvalidRequestError, match=message):
        tokenizer_of("bert")[0].from_tokens(tokens, 48)


def test_too_many_client_tokens_are_refused(tokenizer_of):
    with pytest.raises(RequestTooLargeError, match="49 tokens"):
        tokenizer_of("bert")[0].from_tokens(Tokens({"input_ids": np.full(49, 5)}), 48)


def test_a_model_of_one_segment_takes_no_second(zoo, load):
    tokens = {"input_ids": np.full(3, 5), "token_type_ids": np.array([0, 1, 1])}
    predictor = load(zoo("bert", "sequence_classification", type_vocab_size=1))
    with pytest.raises(InvalidRequestError, match="token_type_ids must hold 0 only"):
        predictor.predict([Tokens(tokens)])
    assert load(zoo("bert", "sequence_classification")).predict([Tokens(tokens)])


@pytest.mark.parametrize("form", ["directory", "archive"])
def test_the_two_texts_of_a_pair_are_of_one_segment_where_the_model_has_one(form, zoo, tmp_path):
    """RoBERTa with BERT's tokenizer, as some Chinese and Korean models are."""
    model = zoo("bert", "sequence_classification", type_vocab_size=1)
    if form == "archive":
        loaded = TextTokenizer(*convert(model, {}, None))
        shutil.copytree(model, tmp_path / "model")
        model = tmp_path / "model"
        (model / "tokenizer_spec.json").write_bytes(loaded.spec.to_json())
    pair = {"text": "where do I live", "text_pair": "I live in Berlin"}
    with Predictor.load(model, device="cpu", environ={}) as predictor:
        rows = predictor.task.encode([predictor.task.parse(pair, predictor.config.parameters)])[0].rows
        assert set(rows[0].inputs["token_type_ids"].tolist()) == {0}
        assert predictor.predict([pair])


@pytest.mark.parametrize("architecture", ENCODERS)
def test_the_spec_and_tokenizer_json_need_no_transformers(architecture, tokenizer_of, tmp_path):
    mine, _ = tokenizer_of(architecture)
    (tmp_path / "tokenizer_spec.json").write_bytes(mine.spec.to_json())
    mine.backend.save(str(tmp_path / "tokenizer.json"))
    again = TextTokenizer.load(tmp_path, {}, None, trust_remote_code=False)
    assert again.spec == mine.spec
    for text in CORPUS:
        assert ids(encode(again, text, max_length=48)) == ids(encode(mine, text, max_length=48))


@pytest.mark.parametrize("content", ["[]", "{}", '{"input_ids": []}'])
def test_a_spec_of_another_version_is_refused(content, tmp_path):
    (tmp_path / "tokenizer_spec.json").write_text(content)
    with pytest.raises(ConfigError, match="archive the model again"):
        TokenizerSpec.read(tmp_path / "tokenizer_spec.json")


def test_a_slow_tokenizer_is_refused(tmp_path):
    transformers.ByT5Tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="ByT5Tokenizer is a slow tokenizer without offsets"):
        convert(tmp_path, {"model_type": "t5"}, None)


@pytest.mark.parametrize(("do_lower_case", "tokens"), [(True, ["berlin"]), (False, None), (None, ["berlin"])])
def test_do_lower_case_overrides_the_tokenizers_own(do_lower_case, tokens, zoo):
    directory = zoo("bert", "embedding")
    model_config = json.loads((directory / "config.json").read_text())
    found = convert(directory, model_config, do_lower_case)[0].encode("BERLIN", add_special_tokens=False).tokens
    assert found == tokens if tokens else found != ["berlin"]


def converted(directory, target, do_lower_case):
    """The files of an archive's tokenizer."""
    backend, spec = convert(directory, json.loads((directory / "config.json").read_text()), do_lower_case)
    backend.save(str(target / "tokenizer.json"))
    (target / "tokenizer_spec.json").write_bytes(spec.to_json())
    return target


@pytest.mark.parametrize("setting", [True, False, None])
@pytest.mark.parametrize("architecture", ["bert", "electra", "mpnet", "roberta"])
def test_do_lower_case_means_the_same_to_a_converted_tokenizer(architecture, setting, zoo, tmp_path):
    directory = zoo(architecture, "embedding")
    converted(directory, tmp_path, setting if architecture == "roberta" else None)
    loaded = TextTokenizer.load(tmp_path, {}, setting, trust_remote_code=False)
    expected = convert(directory, json.loads((directory / "config.json").read_text()), setting)[0]
    assert loaded.backend.encode("The CAFÉ").ids == expected.encode("The CAFÉ").ids


def test_a_converted_tokenizer_that_cannot_be_told_is_to_be_archived_again(zoo, tmp_path):
    converted(zoo("albert", "embedding"), tmp_path, None)
    TextTokenizer.load(tmp_path, {}, True, trust_remote_code=False)
    with pytest.raises(ConfigError, match=r"do_lower_case=False, but .* was made with True; archive the model again"):
        TextTokenizer.load(tmp_path, {}, False, trust_remote_code=False)

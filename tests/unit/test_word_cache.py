"""What the cache of words knows is what the tokenizer says, and what it cannot know it leaves to the tokenizer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers, pre_tokenizers, processors

from bert_handler.tokenization import TextTokenizer, word_cache
from bert_handler.tokenization.truncation import Truncation
from bert_handler.tokenization.word_cache import WordCache
from tests.zoo import CORPUS

WORDPIECE = ("bert", "distilbert", "electra", "mpnet")
OTHERS = ("roberta", "xlm-roberta", "albert", "deberta-v2")
PIECES = st.one_of(
    st.sampled_from(["Berlin", "film", "the", " ", "  ", "\n", "\t", "\r\n", "[MASK]", "[mask]", "[", "don't", "U.S."]),
    st.characters(max_codepoint=127),
    st.characters(exclude_categories=["Cs"]),
)
TEXTS = st.lists(PIECES, max_size=30).map("".join)


@pytest.fixture(scope="module")
def rust(zoo):
    """Tokenizers without truncation, as the archive has them."""

    def load(architecture: str) -> tokenizers.Tokenizer:
        found = tokenizers.Tokenizer.from_file(str(zoo(architecture, "embedding") / "tokenizer.json"))
        found.no_truncation()
        found.no_padding()
        return found

    return load


def check(cache: WordCache, tokenizer: tokenizers.Tokenizer, texts: list) -> list[bool]:
    """Compare what is known with the tokenizer; which of the texts are known."""
    known = cache.encode(texts)
    for item, expected in zip(known, tokenizer.encode_batch(texts)):
        if item is not None:
            assert item.ids.tolist() == expected.ids
            types = [0] * len(item.ids) if item.type_ids is None else item.type_ids.tolist()
            assert types == expected.type_ids
    return [item is not None for item in known]


@settings(max_examples=150, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(st.one_of(TEXTS, st.tuples(TEXTS, TEXTS)), max_size=4))
@pytest.mark.parametrize("architecture", WORDPIECE)
@pytest.mark.parametrize("lowercase", [True, False])
def test_known_texts_are_as_the_tokenizer_has_them(architecture, lowercase, texts, rust):
    tokenizer = rust(architecture)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    cache = WordCache.of(tokenizer)
    for _ in range(3):
        check(cache, tokenizer, texts)


@pytest.mark.parametrize("architecture", WORDPIECE)
def test_words_are_known_from_the_second_time(architecture, rust):
    tokenizer = rust(architecture)
    cache = WordCache.of(tokenizer)
    texts = [*CORPUS[:11], "El niño pequeño “come” una manzana\u2013fría…"]
    pairs = [(text, "A second one.") for text in texts]
    for _ in range(20):  # a few words of a text at a time
        cache.encode(texts)
    assert all(check(cache, tokenizer, texts + pairs))


@pytest.mark.parametrize(
    "text", ["a [MASK] b", "[SEP]", "cafe\u0301", "\u6771\u4eac", "a\u00d7b", "a\u00a0b", "a\x00b", "x\x7fy", "w" * 65]
)
def test_what_words_do_not_tell_is_left_to_the_tokenizer(text, rust):
    tokenizer = rust("bert")
    cache = WordCache.of(tokenizer)
    for _ in range(5):
        assert check(cache, tokenizer, [text, ("a", text), (text, "a")]) == [False] * 3


@pytest.mark.parametrize("lowercase", [True, False])
def test_each_character_of_the_west(lowercase, rust):
    tokenizer = rust("bert")
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    cache = WordCache.of(tokenizer)
    ascii_ones = [chr(i) for i in range(32, 127) if chr(i) not in "[]"]
    latin = [chr(i) for i in range(0xC0, 0x100) if i not in (0xD7, 0xF7)]
    for mark in [*ascii_ones, *latin, *map(chr, range(0x2010, 0x2028))]:
        text = f"Berlin{mark}film {mark} {mark}{mark}"
        cache.encode([text])
        cache.encode([text])
        assert check(cache, tokenizer, [text]) == [True], mark


@pytest.mark.parametrize("architecture", OTHERS)
def test_other_tokenizers_have_none(architecture, rust):
    assert WordCache.of(rust(architecture)) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it.add_tokens(["covid"]),
        lambda it: it.add_special_tokens([AddedToken("\u00e9")]),
        lambda it: setattr(it, "normalizer", normalizers.BertNormalizer(clean_text=False)),
        lambda it: setattr(it, "normalizer", normalizers.Lowercase()),
        lambda it: setattr(it, "pre_tokenizer", pre_tokenizers.Whitespace()),
        lambda it: setattr(it, "post_processor", processors.ByteLevel()),
    ],
)
def test_a_tokenizer_that_looks_beyond_a_word_has_none(change, rust):
    tokenizer = rust("bert")
    change(tokenizer)
    assert WordCache.of(tokenizer) is None


def test_added_tokens_are_found_by_their_marks(rust):
    tokenizer = rust("bert")
    tokenizer.add_tokens(["c++"])
    cache = WordCache.of(tokenizer)
    for _ in range(3):
        found = check(cache, tokenizer, ["I like c++ most", "two + two", "I like film"])
    assert found == [False, False, True]


def test_type_ids_of_a_single_text(rust):
    tokenizer = rust("bert")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A:0 [SEP]:0 [CLS]:2", pair="$B:1 [SEP]:1 $A:0 [CLS]:2", special_tokens=[("[SEP]", 3), ("[CLS]", 2)]
    )
    cache = WordCache.of(tokenizer)
    cache.encode(["the film"])
    assert check(cache, tokenizer, ["the film", ("film", "the")]) == [True, True]


def test_it_forgets_rather_than_grows(rust, monkeypatch):
    monkeypatch.setattr(word_cache, "MAX_WORDS", 8)
    tokenizer = rust("bert")
    cache = WordCache.of(tokenizer)
    for i in range(100):
        check(cache, tokenizer, [f"film {i} of {i + 1}", " ".join(map(str, range(i, i + 40)))])
        assert len(cache) <= 8


def test_new_words_of_all_texts_are_one_call_and_known_ones_none(rust):
    tokenizer = rust("bert")
    cache = WordCache.of(tokenizer)
    calls = []

    class Recording:
        def encode_batch(self, texts, **options):
            calls.append(sorted(texts))
            return tokenizer.encode_batch(texts, **options)

    cache._tokenizer = Recording()
    for _ in range(2):
        assert check(cache, tokenizer, ["the film", "a dog", "the dog", "\u6771"]) == [True, True, True, False]
    check(cache, tokenizer, ["\u6771\u4eac", "[the]", "the film"])
    assert calls == [["a", "dog", "film", "the"]], "nothing is asked for where nothing can be learned"


def test_a_long_text_is_left_to_the_tokenizer(rust):
    cache = WordCache.of(rust("bert"))
    cache.encode(["the"])
    assert [item is None for item in cache.encode(["the " * 2048, "the " * 2049])] == [False, True]


def test_threads_share_it(rust, monkeypatch):
    monkeypatch.setattr(word_cache, "MAX_WORDS", 64)
    tokenizer = rust("bert")
    cache = WordCache.of(tokenizer)
    texts = [f"film {i} of the {i % 7}" for i in range(200)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: check(cache, tokenizer, texts[i : i + 5]), list(range(195)) * 3))


def test_known_and_other_texts_keep_their_order(rust, zoo):
    tokenizer = TextTokenizer.load(zoo("bert", "embedding"), {"model_type": "bert"}, None, trust_remote_code=False)
    texts = ["the film", "\u6771", ("the film", "\u6771"), "a [MASK] film", ("the", "film"), "", "the " * 40]
    rule = Truncation("truncate", 16)
    for _ in range(3):
        found = tokenizer.encode(texts, [rule] * len(texts))
        expected = tokenizer.encode(texts, [rule] * len(texts), offsets=True)
        for mine, theirs in zip(found, expected):
            assert {name: values.tolist() for name, values in mine.inputs(0).items()} == {
                name: values.tolist() for name, values in theirs.inputs(0).items()
            }
            assert (mine.n_tokens, mine.truncated) == (theirs.n_tokens, theirs.truncated)
    assert [item is not None for item in tokenizer._words.encode(texts[:2])] == [True, False]

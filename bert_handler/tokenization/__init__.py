"""Text to token ids with the Rust tokenizer alone, one call for a whole batch."""

from bert_handler.tokenization.spec import TOKENIZER_SPEC, TokenizerSpec
from bert_handler.tokenization.tokenizer import TOKENIZER, Encoded, Text, TextTokenizer
from bert_handler.tokenization.truncation import Truncation

__all__ = ["TOKENIZER", "TOKENIZER_SPEC", "Encoded", "Text", "TextTokenizer", "TokenizerSpec", "Truncation"]

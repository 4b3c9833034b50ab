"""Tokenizers that belong to a backbone."""

from pathlib import Path
from typing import Any

from keras_spot.base import reading
from keras_spot.base.errors import invalid, missing_file

__all__ = ["LIMIT", "check", "read"]

LIMIT = 64 << 20
"""Bytes of a model at most."""


def read(file: Path) -> Any:
    """Return the `T5Tokenizer` of a SentencePiece model file.

    Raises:
        InvalidArgument: no SentencePiece model, or one without T5's special pieces.
        MissingFile: there is no such file.
    """
    from keras_hub.models import T5Tokenizer

    if not file.is_file():
        raise missing_file("tokenizer", "must exist", file)
    proto = reading.read_bytes(file, LIMIT, "tokenizer")
    with reading.parsing(file, "must be a SentencePiece model with <pad> and </s>", "tokenizer"):
        return T5Tokenizer(proto=proto)


def check(tokenizer: Any, backbone: Any) -> None:
    """Raise InvalidArgument unless a tokenizer's ids mean something to a backbone.

    A table may have more rows than there are pieces (T5: 32,128 for 32,000), never fewer.
    """
    pieces, rows = tokenizer.vocabulary_size(), backbone.vocabulary_size
    if pieces > rows:
        rule = f"must have at most as many pieces as the embedding table has rows ({rows})"
        raise invalid("tokenizer", rule, f"{pieces} pieces")
    ids = (tokenizer.pad_token_id, tokenizer.end_token_id)
    if ids != (0, 1):
        raise invalid("tokenizer", "must have <pad> as 0 and </s> as 1", f"{ids[0]} and {ids[1]}")

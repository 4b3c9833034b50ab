"""Tokenizers that belong to a backbone."""

from pathlib import Path
from typing import Any

from keras_spot.base.errors import invalid, missing_file


def read(file: Path) -> Any:
    """Return the `T5Tokenizer` of a SentencePiece model file.

    Raises:
        ValueError: no SentencePiece model, or one without T5's special pieces.
        FileNotFoundError: there is no such file.
    """
    from keras_hub.models import T5Tokenizer

    if not file.is_file():
        raise missing_file("tokenizer", "must exist", file)
    try:
        return T5Tokenizer(proto=file.read_bytes())
    except Exception as error:  # of SentencePiece inside TensorFlow, of many kinds
        rule = "must be a SentencePiece model with <pad> and </s>"
        raise invalid("tokenizer", rule, f"{file} ({_reason(error)})") from None


def check(tokenizer: Any, backbone: Any) -> None:
    """Raise ValueError unless a tokenizer's ids mean something to a backbone.

    A table may have more rows than there are pieces (T5: 32,128 for 32,000), never fewer.
    """
    pieces, rows = tokenizer.vocabulary_size(), backbone.vocabulary_size
    if pieces > rows:
        rule = f"must have at most as many pieces as the embedding table has rows ({rows})"
        raise invalid("tokenizer", rule, f"{pieces} pieces")
    ids = (tokenizer.pad_token_id, tokenizer.end_token_id)
    if ids != (0, 1):
        raise invalid("tokenizer", "must have <pad> as 0 and </s> as 1", f"{ids[0]} and {ids[1]}")


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__

"""A SentencePiece model as the `tokenizer.json` of Hugging Face, with the prompts' words."""

import base64
import json
from pathlib import Path
from typing import Any

from keras_spot.base.errors import invalid

__all__ = ["write_tokenizer"]

_UNIGRAM = 1  # of SentencePiece's model types
_SPACE = "▁"


def write_tokenizer(
    folder: Path, proto: bytes, rows: int, words: list[list[str]], input_length: int
) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`.

    A text becomes the ids that SentencePiece gives it, but for `</s>`, `<pad>` and `<unk>` inside
    a text, which are these tokens, as in every folder for transformers; and but for a combining
    accent behind a compatibility character (a full-width letter), which `Precompiled` loses.
    Names of rows without a piece are text there (`split_special_tokens`); the prompts' words are
    words.

    Args:
        folder: where to.
        proto: the SentencePiece model, of unigrams.
        rows: of the embedding table without prompts. Those without a piece get names of their own.
        words: of each prompt.
        input_length: tokens at most, without the prompt.

    Raises:
        InvalidArgument: a SentencePiece model of another type.
    """
    from sentencepiece import sentencepiece_model_pb2

    model: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    model.ParseFromString(proto)
    if model.trainer_spec.model_type != _UNIGRAM:
        rule = "must be a SentencePiece model of unigrams to become a Hugging Face folder"
        raise invalid("tokenizer", rule, f"model_type={model.trainer_spec.model_type}")
    pieces = model.pieces
    ends = [{"id": i, "special": True, "content": pieces[i].piece} for i in range(3)]
    filling = [
        {"id": i, "special": True, "content": f"<spot:row:{i}>"} for i in range(len(pieces), rows)
    ]
    added = [
        {"id": rows + i, "special": False, "content": word}
        for i, word in enumerate(word for prompt in words for word in prompt)
    ]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    metaspace = {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": "always"}
    record = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{**flags, **token} for token in (*ends, *filling, *added)],
        "normalizer": _normalizer(model.normalizer_spec),
        "pre_tokenizer": {**metaspace, "split": False},
        "post_processor": _end_behind(pieces[1].piece),
        "decoder": {**metaspace, "split": True},
        "model": {
            "type": "Unigram",
            "unk_id": 2,
            "byte_fallback": False,
            "vocab": [[piece.piece, piece.score] for piece in pieces],
        },
    }
    _write(folder / "tokenizer.json", record)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": pieces[0].piece,
        "eos_token": pieces[1].piece,
        "unk_token": pieces[2].piece,
        "model_max_length": len(words[0]) + input_length,
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
        "padding_side": "right",
    }
    _write(folder / "tokenizer_config.json", config)


def _normalizer(spec: Any) -> dict[str, Any]:
    """Return the steps of SentencePiece's normaliser."""
    steps: list[dict[str, Any]] = []
    if spec.precompiled_charsmap:
        charsmap = base64.b64encode(spec.precompiled_charsmap).decode()
        steps.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if spec.remove_extra_whitespaces:
        steps.append({"type": "Strip", "strip_left": True, "strip_right": True})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    return {"type": "Sequence", "normalizers": steps}


def _end_behind(end: str) -> dict[str, Any]:
    """Return the template that puts the end token behind a text."""
    text, other = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    last = {"SpecialToken": {"id": end, "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [text, last],
        "pair": [text, last, other, last],
        "special_tokens": {end: {"id": end, "ids": [1], "tokens": [end]}},
    }


def _write(file: Path, record: dict[str, Any]) -> None:
    file.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

"""Requests in TensorFlow Serving's REST forms, and their answers.

| verb | body | answer |
|---|---|---|
| `:predict` | `{"instances": [...]}`, a row each | `{"predictions": [...]}` |
| `:predict` | `{"inputs": ...}`, a list, or columns by name | `{"outputs": {...}}` |
| `:classify` | `{"examples": [...]}` | `{"results": [[[label, probability], ...], ...]}` |

A row is a text that is ready, or an object with the fields of the task's template; fields that all
`examples` share may stand in a `context`. `signature_name` of `:predict` is `serving_default`,
`classify` or `score`; the last takes `candidates`.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from keras_spot.base import json_text
from keras_spot.base.errors import complaint, shortened, unknown
from keras_spot.serving.limits import Limits, Refused

__all__ = ["SIGNATURES", "Question", "Request", "Signature", "answer_of", "parse", "to_json"]

Signature = Literal["serving_default", "classify", "score"]
SIGNATURES = ("serving_default", "classify", "score")
PROMPT, CANDIDATES, CONTEXT = "prompt", "candidates", "context"


@dataclasses.dataclass(frozen=True)
class Question:
    """One row of a request.

    Attributes:
        given: a text, or the fields of a template.
        prompt: the prompt that the row names, None where the address names it.
        candidates: the answers to score, () of other signatures.
    """

    given: str | Mapping[str, Any]
    prompt: str | None = None
    candidates: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Request:
    """What a body asks.

    Attributes:
        signature: what to compute.
        questions: the rows.
        form: "instances", "inputs" or "examples", the key under which they stood.
    """

    signature: Signature
    questions: Sequence[Question]
    form: str


def parse(verb: str, body: bytes, names_prompts: bool, limits: Limits) -> Request:
    """Return what a body asks.

    Args:
        verb: "predict" or "classify".
        body: JSON.
        names_prompts: whether every row names its prompt, as at the address of all tasks.
        limits: of the server.

    Raises:
        Refused: 400 for what is no JSON, 422 for JSON that asks nothing known or too much.
    """
    record = _json(body)
    forms = ("examples",) if verb == "classify" else ("instances", "inputs")
    keys = (*forms, *((CONTEXT,) if verb == "classify" else ()), "signature_name")
    for key in record:
        if key not in keys:
            raise Refused(422, str(unknown("body", key, keys)))
    given = [form for form in forms if form in record]
    if len(given) != 1:
        raise _wrong("body", f"must have one of {', '.join(forms)}", list(record))
    signature = record.get("signature_name", SIGNATURES[verb == "classify"])
    if signature not in SIGNATURES or (verb == "classify" and signature != "classify"):
        known = SIGNATURES if verb == "predict" else SIGNATURES[1:2]
        raise Refused(422, str(unknown("signature_name", shortened(repr(signature)), known)))
    (form,) = given
    rows = _columns(record[form], limits) if form == "inputs" else record[form]
    if not isinstance(rows, list):
        raise _wrong(form, "must be a list", rows)
    if CONTEXT in record:
        rows = _in_context(rows, record[CONTEXT])
    if not rows:
        raise _wrong(form, "must hold at least one row", rows)
    if len(rows) > limits.instances:
        raise _wrong(form, f"must hold at most {limits.instances} rows", len(rows))
    questions = [
        _question(row, f"{form}[{number}]", signature, names_prompts, limits)
        for number, row in enumerate(rows)
    ]
    return Request(signature, questions, form)


def answer_of(request: Request, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the body of an answer, given what was computed for each row.

    Args:
        request: what was asked.
        rows: outputs by name, those of a signature and `error`.
    """
    if request.form == "instances":
        return {"predictions": list(rows)}
    if request.form == "inputs":
        return {"outputs": {name: [row[name] for row in rows] for name in rows[0]}}
    pairs = [list(map(list, zip(row["labels"], row["probabilities"]))) for row in rows]
    answer: dict[str, Any] = {"results": pairs}
    if any(row["error"] for row in rows):
        answer["errors"] = [row["error"] for row in rows]
    return answer


def to_json(record: Any) -> bytes:
    """Return a record as JSON; numbers that are not finite, which JSON does not know, as null."""
    return json_text.to_json(record, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _json(body: bytes) -> dict[str, Any]:
    try:
        record = json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Refused(400, complaint("body", "must be JSON", shortened(reason))) from None
    if not isinstance(record, dict):
        raise _wrong("body", "must be an object", record)
    return record


def _columns(given: Any, limits: Limits) -> Any:
    """Return rows of columns: names to lists of one length; candidates are the same for all."""
    if not isinstance(given, dict):
        return given
    columns = {name: values for name, values in given.items() if name != CANDIDATES}
    shared = {CANDIDATES: given[CANDIDATES]} if CANDIDATES in given else {}
    for name, values in columns.items():
        if not isinstance(values, list) or len(values) > limits.instances:
            raise _wrong(f"inputs.{name}", f"must be a list of at most {limits.instances}", values)
    if len({len(values) for values in columns.values()}) != 1:
        sizes = {name: len(values) for name, values in columns.items()}
        raise _wrong("inputs", "must be lists of one length", sizes)
    return [{**dict(zip(columns, row)), **shared} for row in zip(*columns.values())]


def _in_context(rows: list[Any], context: Any) -> list[Any]:
    """Return rows with the fields that they share; their own stand before these."""
    if not isinstance(context, dict):
        raise _wrong(CONTEXT, "must be an object with fields", context)
    return [{**context, **row} if isinstance(row, dict) else row for row in rows]


def _question(
    row: Any, place: str, signature: str, names_prompts: bool, limits: Limits
) -> Question:
    if not isinstance(row, (str, dict)):
        raise _wrong(place, "must be a text or an object with the fields of the task", row)
    given: Any = dict(row) if isinstance(row, dict) else row
    prompt = given.pop(PROMPT, None) if names_prompts and isinstance(given, dict) else None
    if names_prompts and not isinstance(prompt, str):
        raise _wrong(place, "must be an object that names its `prompt`", row)
    candidates: Any = ()
    if signature == "score":
        candidates = given.pop(CANDIDATES, None) if isinstance(given, dict) else None
        good = isinstance(candidates, list) and candidates
        if not good or not all(isinstance(one, str) and one and _whole(one) for one in candidates):
            rule = "must be a list of texts, none empty"
            raise _wrong(f"{place}.candidates", rule, candidates)
        if len(candidates) > limits.candidates:
            rule = f"must be at most {limits.candidates} texts"
            raise _wrong(f"{place}.candidates", rule, len(candidates))
    letters = _letters(given) + sum(map(len, candidates))
    if letters > limits.characters:
        raise _wrong(place, f"must be of at most {limits.characters} characters", letters)
    return Question(given, prompt, tuple(candidates))


def _letters(given: Any) -> int:
    if isinstance(given, str):
        return len(given)
    return sum(len(value) for value in given.values() if isinstance(value, str))


def _whole(text: str) -> bool:
    """Say whether a text is whole characters: JSON can hold halves."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _wrong(place: str, rule: str, received: Any) -> Refused:
    return Refused(422, complaint(place, rule, shortened(repr(received)[:1000])))

"""From a row of a data set to the features that the format strings name.

Each function returns the rows that replace one row, as the features that change. The forms are
those of the T5 codebase (t5/data/preprocessors.py) and of SPoT (prompt-tuning, spot/data).
"""

import math
import re
import string
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_spot.base.errors import invalid

__all__ = [
    "CLEANING",
    "ONE_FOR_ONE",
    "PREFIX_WORDS",
    "PREPROCESS",
    "Row",
    "answers",
    "emotions",
    "mrqa",
    "multirc",
    "polarity",
    "prefix_lm",
    "record",
    "similarity",
    "spaced",
    "wsc",
    "wsc_marked",
]

PREFIX_WORDS = 384
"""Words of a C4 page that the prefix language model sees: about 512 T5 pieces."""

_SPACE = re.compile(r"[\t\n\f\r ]+")
_PUNCTUATION = re.compile("([" + re.escape(string.punctuation) + "])")
_HIGHLIGHT_AFTER_STOP = re.compile(r"([.?!\"'])\n@highlight\n")

Row = Mapping[str, Any]


def answers(row: Row) -> list[Row]:
    """Give a question's first answer as `answer` and keep all of them for scoring.

    >>> answers({"answers": ["Paris", "the city of Paris"]})[0]["answer"]
    'Paris'
    """
    accepted = [str(answer) for answer in row["answers"]]
    return [{"answer": accepted[0] if accepted else "<unk>", "answers": accepted}]


def spaced(row: Row) -> list[Row]:
    """Give every text with runs of white space as one space.

    >>> spaced({"premise": "one\\n two"})
    [{'premise': 'one two'}]
    """
    return [_in_one_line({name: text for name, text in row.items() if isinstance(text, str)})]


def mrqa(row: Row) -> list[Row]:
    """Set punctuation apart with spaces in question, context and answers, as T5 does for SQuAD.

    >>> mrqa({"question": "Who?", "context": "A. B.", "answers": ["U.S."]})[0]["answer"]
    'U . S .'
    """
    accepted = [_apart(answer) for answer in row["answers"]]
    texts = _texts_apart({name: row[name] for name in ("question", "context")})
    return [{**texts, "answer": accepted[0] if accepted else "<unk>", "answers": accepted}]


def multirc(row: Row) -> list[Row]:
    """Remove the paragraph's HTML marks and group the answers of a question."""
    idx = row["idx"]
    clean = _without_marks({name: row[name] for name in ("question", "answer", "paragraph")})
    return [{**clean, "group": f"{idx['paragraph']}-{idx['question']}"}]


def record(row: Row) -> list[Row]:
    """Give one row for each gold answer, all of one group; highlights become sentences.

    >>> row = {"passage": "Rain.\\n@highlight\\nSun", "entities": ["Bo", "Al"],
    ...        "answers": ["Al", "Bo"], "idx": {"passage": 3, "query": 7}}
    >>> [(new["answer"], new["entities"], new["passage"], new["group"]) for new in record(row)]
    [('Al', 'Bo, Al', 'Rain. Sun', '3-7'), ('Bo', 'Bo, Al', 'Rain. Sun', '3-7')]
    """
    idx = row["idx"]
    accepted = list(row["answers"])
    passage = _HIGHLIGHT_AFTER_STOP.sub(r"\1 ", row["passage"])
    shared = {
        "passage": passage.replace("\n@highlight\n", ". "),
        "entities": ", ".join(row["entities"]),
        "answers": accepted,
        "group": f"{idx['passage']}-{idx['query']}",
    }
    return [{**shared, "answer": answer} for answer in accepted or ["<unk>"]]


def similarity(row: Row) -> list[Row]:
    """Round a score to the nearest 0.2, one decimal; -1 and NaN are no score.

    The product is rounded to float32 before it is rounded to a whole number, half to even, as
    T5 computes it: 3.1 gives "3.2".

    >>> [similarity({"label": x})[0]["label"] for x in (3.1, 2.5, 3.75, 5.0, -1.0)]
    ['3.2', '2.4', '3.8', '5.0', '<unk>']
    """
    value = row.get("label")
    try:
        score = -1.0 if value is None else float(value)
    except ValueError:
        score = math.nan
    if score == -1:
        return [{"label": "<unk>"}]
    if not 0 <= score <= 5:
        rule = "must be a score from 0 to 5, or -1 for none"
        raise invalid("label", rule, f"label={value!r} ({_where(row)})")
    return [{"label": f"{round(_float32(_float32(score) * 5)) / 5:.1f}"}]


def wsc(row: Row) -> list[Row]:
    """Mark the pronoun as `*pronoun*`; the candidate referent is the answer.

    Where the word at the pronoun's place is another one (two texts of the data set), the pronoun
    is the nearest word after it that begins with it; what hangs on the word is set apart.

    >>> row = {"text": "Bob asked Tom if he can lend money.", "span1_text": "Tom",
    ...        "span2_text": "he", "span2_index": 4}
    >>> wsc(row)[0]["text"]
    'Bob asked Tom if *he* can lend money.'

    Raises:
        InvalidArgument: the pronoun stands nowhere from its place on.
    """
    words, pronoun = row["text"].split(" "), row["span2_text"]
    for place in range(row["span2_index"], len(words)):
        if words[place].startswith(pronoun):
            rest = words[place].removeprefix(pronoun)
            words[place] = f"*{pronoun}*" + (f" {rest}" if rest else "")
            return [{"text": " ".join(words).strip(), "answers": [row["span1_text"]]}]
    rule = f"must be in the text from word {row['span2_index']} on"
    raise invalid("span2_text", rule, f"span2_text={pronoun!r} ({_where(row)})")


def wsc_marked(row: Row) -> list[Row]:
    """Mark the noun as `* noun *` and the pronoun as `# pronoun #`.

    Case does not count in finding a span; one that is not at its index stays unmarked. (T5 counts
    case, which leaves 24 training rows without marks.)

    >>> row = {"text": "This is a test sentence .", "span1_text": "test", "span1_index": 3,
    ...        "span2_text": "This", "span2_index": 0}
    >>> wsc_marked(row)[0]["text"]
    '# This # is a * test * sentence .'
    """
    noun, pronoun = row["span1_index"], row["span2_index"]
    text = _mark(row["text"], row["span1_text"], noun, "*")
    moved = pronoun + 2 * (noun < pronoun and text != row["text"])  # the marks are words now
    return [{"text": _mark(text, row["span2_text"], moved, "#")}]


def prefix_lm(row: Row) -> list[Row]:
    """Cut a page's first words in a `prefix` to read and a `suffix` to write.

    The place of the cut is uniform over the words and depends on the text alone. A page of one
    word is all suffix.

    >>> prefix_lm({"text": "one two  three"})
    [{'prefix': 'one', 'suffix': 'two three'}]

    The SPoT paper trains its C4 prompt on this objective (Vu et al. 2022, section 2.2.1).
    """
    text = row["text"]
    words = text.split()[:PREFIX_WORDS]
    cut = 1 + zlib.crc32(text.encode()) % (len(words) - 1) if len(words) > 1 else 0
    return [{"prefix": " ".join(words[:cut]), "suffix": " ".join(words[cut:])}]


def polarity(row: Row) -> list[Row]:
    """Give Sentiment140's polarity (0, 2, 4) as the label's number (0, 1, 2)."""
    return [{"label": row["polarity"] / 2}]


def emotions(row: Row) -> list[Row]:
    """Give the names of GoEmotions' features that are true, in alphabetical order.

    >>> emotions({"comment_text": "I love it!", "love": True, "joy": True, "fear": False})
    [{'emotions': 'joy, love'}]
    """
    names = sorted(name for name, value in row.items() if value is True)
    return [{"emotions": ", ".join(names) or "<unk>"}]


PREPROCESS: dict[str, Callable[[Row], Sequence[Row]]] = {
    "answers": answers,
    "emotions": emotions,
    "mrqa": mrqa,
    "multirc": multirc,
    "polarity": polarity,
    "prefix_lm": prefix_lm,
    "record": record,
    "similarity": similarity,
    "spaced": spaced,
    "wsc": wsc,
    "wsc_marked": wsc_marked,
}


ONE_FOR_ONE = frozenset(PREPROCESS) - {"record"}
"""Those of them that give one row for each row."""


def _in_one_line(texts: Mapping[str, str]) -> dict[str, str]:
    return {name: _SPACE.sub(" ", text) for name, text in texts.items()}


def _texts_apart(texts: Mapping[str, str]) -> dict[str, str]:
    return {name: _apart(text) for name, text in texts.items()}


def _without_marks(texts: Mapping[str, str]) -> dict[str, str]:
    return {
        name: text.replace("<br>", " ").replace("<b>", "").replace("</b>", "")
        for name, text in texts.items()
    }


CLEANING: dict[str, Callable[[Mapping[str, str]], dict[str, str]]] = {
    "mrqa": _texts_apart,
    "multirc": _without_marks,
    "spaced": _in_one_line,
}
"""What those of them do to the texts of the input that do nothing else to it."""


def _apart(text: str) -> str:
    return _SPACE.sub(" ", _PUNCTUATION.sub(r" \1 ", text)).strip()


def _float32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])


def _mark(text: str, span: str, place: int, mark: str) -> str:
    before = re.match(r"(?:\S+\s){" + str(place) + "}", text)
    start = before.end() if before else len(text)
    at_place = text[start : start + len(span)]
    if at_place.lower() != span.lower():
        return text
    return f"{text[:start]}{mark} {at_place} {mark}{text[start + len(span) :]}"


def _where(row: Row) -> str:
    return str(getattr(row, "place", "a row"))

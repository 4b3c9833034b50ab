"""What every engine does: answer texts and score candidates with an exported model."""

import abc
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np

from keras_spot.backbones.converters.vocabulary import LIMIT
from keras_spot.base import reading
from keras_spot.base.cores import usable_cores
from keras_spot.base.errors import damaged, invalid
from keras_spot.base.types import PathLike, Record
from keras_spot.data.texts import clean
from keras_spot.prompts import names as naming
from keras_spot.serving.engines.parts import Parts
from keras_spot.serving.held import HeldPrompt
from keras_spot.tasks.card import TASK_FILE, TaskCard, read_cards

__all__ = ["LOGITS", "VOCABULARY", "WRITTEN", "Engine", "Prompts", "Rows", "TokenEngine"]

VOCABULARY = "spiece.model"
WRITTEN = "must be one that keras-spot export wrote"
_WORTH, _TRIES = 1.5, 4  # how much sooner all cores must answer one text, tried so often
LOGITS = 1 << 27  # at once, 512 MB of them
_LENGTHS = ("max_input_length", "max_target_length")

Rows = Sequence[Sequence[int]]
"""Token ids, a list for each text."""

Prompts: TypeAlias = str | HeldPrompt | Sequence[str | HeldPrompt] | None
"""A prompt's name, or one that was never exported; one for all texts, or one for each."""


class Engine(abc.ABC):
    """An exported model, loaded by one library.

    A text is what the model reads, its template filled in: `engine.cards[prompt].text(fields)`.
    Calls may come from several threads at once.

    Args:
        folder: what `keras-spot export` wrote.
        batch_size: rows decoded at once. Default 32.

    Attributes:
        name: of the library, as `--engine` takes it.
        takes_prompts: whether prompts may come with a call that were never exported.
        cards: each prompt's name and how it is asked, in the order of the prompts' numbers.
        facts: what else the folder says: `max_input_length` (tokens without the prompt; longer
            texts are cut), `max_target_length` (where a card says nothing else), `prompt_length`.

    Raises:
        MissingExtra: the library is not installed.
        OSError, DamagedFile: the folder does not hold such a model.
    """

    name: ClassVar[str]
    takes_prompts: bool = False

    def __init__(self, folder: PathLike, batch_size: int = 32) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise invalid("batch_size", "must be a positive integer", f"{batch_size=}")
        self.folder = Path(folder)
        self.batch_size = batch_size
        self.cards, self.facts = self.read_cards()
        for name in _LENGTHS:
            if type(self.facts.get(name)) is not int or self.facts[name] < 1:
                received = f"{name}={self.facts.get(name)!r}"
                raise damaged(self.folder / TASK_FILE, WRITTEN, received, argument="folder")

    def read_cards(self) -> tuple[dict[str, TaskCard], Record]:
        """Return `cards` and `facts`. Default: what the folder's `task.json` says."""
        return read_cards(self.folder / TASK_FILE)

    def prompts_of_rows(self, prompt: Prompts, rows: int) -> list[str | HeldPrompt]:
        """Return the prompt of each of B rows: an exported one's name, or one that is held.

        Args:
            prompt: one for all rows, or one for each. Default: the only one.
            rows: B.

        Raises:
            InvalidArgument: an unknown prompt, none named of several, another number than B, or a
                held one where the engine takes none.
        """
        names = list(self.cards)
        if prompt is None and len(names) == 1:
            return [names[0]] * rows
        if prompt is None or isinstance(prompt, (str, HeldPrompt)):
            prompt = [prompt] * rows if rows else []  # type: ignore[list-item]
        if len(prompt) != rows:
            rule = "must be one for all texts, or one for each"
            raise invalid("prompt", rule, f"{len(prompt)} prompts for {rows} texts")
        for one in dict.fromkeys(prompt):
            if not isinstance(one, HeldPrompt):
                naming.number(names, one)
            elif not self.takes_prompts:
                rule = f"must be one that was exported, of {self.name} in this folder"
                raise invalid("prompt", rule, repr(one.name))
        return list(prompt)

    def card_of(self, prompt: str | HeldPrompt) -> TaskCard:
        """Return how a prompt of `prompts_of_rows` is asked."""
        return prompt.card if isinstance(prompt, HeldPrompt) else self.cards[prompt]

    def target_lengths(
        self, prompts: Sequence[str | HeldPrompt], max_length: int | None = None
    ) -> list[int]:
        """Return the target tokens at most of rows with these prompts.

        Raises:
            InvalidArgument: a `max_length` that is no positive integer.
        """
        if max_length is not None:
            if not isinstance(max_length, int) or max_length < 1:
                raise invalid("max_length", "must be a positive integer", f"{max_length=}")
            return [max_length] * len(prompts)
        general = self.facts["max_target_length"]
        return [self.card_of(prompt).max_target_length or general for prompt in prompts]

    @abc.abstractmethod
    def generate(
        self,
        texts: Sequence[str],
        prompt: Prompts = None,
        max_length: int | None = None,
    ) -> list[str]:
        """Return the greedy answer to each text.

        Args:
            texts: B texts.
            prompt: name of the prompt for all texts, or one for each. Default: the only one.
            max_length: target tokens at most. Default: each prompt's own.

        Raises:
            InvalidArgument: no texts, unknown prompts, or a length that is no positive integer.
        """

    @abc.abstractmethod
    def scores(
        self,
        texts: Sequence[str],
        candidates: Sequence[str],
        prompt: Prompts = None,
    ) -> np.ndarray:
        """Return the log-likelihood of every candidate after every text, float32 `[B, C]`.

        The sum over a candidate's tokens, end of sequence included. Candidates are cut to
        `max_input_length` or `max_target_length`, what is more.

        Raises:
            InvalidArgument: no candidate, what are no texts, or unknown prompts.
        """

    def classify(self, texts: Sequence[str], prompt: Prompts = None) -> list[dict[str, float]]:
        """Return for each text the probability of each label of its prompt's task.

        They are those of rank classification: likelihoods of the labels, scaled to sum 1.

        Raises:
            InvalidArgument: a prompt whose task has no labels, and what `scores` raises.
        """
        texts = clean("texts", texts)
        prompts = self.prompts_of_rows(prompt, len(texts))
        answers: list[dict[str, float]] = [{}] * len(texts)
        by_labels: dict[tuple[str, ...], list[int]] = {}
        for place, one in enumerate(prompts):
            card = self.card_of(one)
            if not card.labels:
                raise invalid("prompt", "must be of a task with labels", f"prompt={card.name!r}")
            by_labels.setdefault(card.labels, []).append(place)
        for labels, places in by_labels.items():
            chosen = [prompts[place] for place in places]
            scores = self.scores([texts[place] for place in places], labels, chosen)
            shares = np.exp(scores - scores.max(axis=1, keepdims=True))
            shares /= shares.sum(axis=1, keepdims=True)
            for place, row in zip(places, shares):
                answers[place] = dict(zip(labels, map(float, row)))
        return answers


class TokenEngine(Engine):
    """An engine of token ids, with the SentencePiece model that lies beside the weights.

    A batch is dealt out to the cores in parts. A subclass loads the model (`load`), decodes
    (`generate_ids`) and scores (`score_ids`) a part, and calls `start` when it is ready to.

    Attributes:
        threads: cores of one part.
    """

    threads: int

    def __init__(self, folder: PathLike, batch_size: int = 32) -> None:
        super().__init__(folder, batch_size)
        import sentencepiece

        file = self.folder / VOCABULARY
        proto = reading.read_bytes(file, LIMIT, "folder")
        with reading.parsing(file, "must be a SentencePiece model", "folder"):
            self.pieces: Any = sentencepiece.SentencePieceProcessor()
            self.pieces.load_from_serialized_proto(proto)
        self.known = self.pieces.vocab_size()
        self.pad, self.end = self.pieces.pad_id(), self.pieces.eos_id()

    def start(self, threads: int = 0, cores: int | None = None) -> None:
        """Load the model for parts that fill the cores.

        Args:
            threads: cores of one part. Default 0: one, or all, if one text is answered at least
                1.5 times sooner with all of them, which is tried here.
            cores: of all parts. Default: those that this process may use.

        Raises:
            InvalidArgument: `threads` that are no integer of at least 0.
            DamagedFile: the folder does not hold such a model.
        """
        if type(threads) is not int or threads < 0:
            raise invalid("threads", "must be an integer of at least 0", f"{threads=}")
        cores = cores or usable_cores()
        self._arrange(threads or cores, cores)
        if not threads and cores > 1:
            seconds = self._seconds_of_a_text()
            self._arrange(1, cores)
            if self._seconds_of_a_text() > _WORTH * seconds:
                self._arrange(cores, cores)

    @abc.abstractmethod
    def load(self, threads: int, parts: int) -> None:
        """Load the model, instead of one that was loaded before.

        Args:
            threads: cores of one computation.
            parts: computations at once.
        """

    @abc.abstractmethod
    def generate_ids(
        self, rows: Rows, prompts: Sequence[str | HeldPrompt], length: int
    ) -> list[list[int]]:
        """Return at most `length` token ids for each row, without the end token.

        Args:
            rows: token ids with the end token, without a prompt.
            prompts: each row's prompt, of `prompts_of_rows`.
            length: D.
        """

    @abc.abstractmethod
    def score_ids(
        self, rows: Rows, prompts: Sequence[str | HeldPrompt], candidates: Rows
    ) -> np.ndarray:
        """Return the log-likelihoods `[B, C]` of candidates, whose end token stands last."""

    def generate(
        self,
        texts: Sequence[str],
        prompt: Prompts = None,
        max_length: int | None = None,
    ) -> list[str]:
        rows = self.token_rows(texts)
        prompts = self.prompts_of_rows(prompt, len(rows))
        answers = self.answer_rows(rows, prompts, self.target_lengths(prompts, max_length))
        return [self.detokenize(ids) for ids in answers]

    def answer_rows(
        self, rows: Rows, prompts: Sequence[str | HeldPrompt], limits: Sequence[int]
    ) -> list[list[int]]:
        """Return the token ids of the answers to B rows of token ids, each at most its limit."""

        def compute(part: Sequence[int]) -> list[list[int]]:
            # What comes later does not change what came before: rows are cut to their own limit.
            length = max(limits[i] for i in part)
            return self.generate_ids([rows[i] for i in part], [prompts[i] for i in part], length)

        answers: list[list[int]] = [[] for _ in rows]
        for chunk in self._chunks(rows):
            for part, ids in self._parts(compute, chunk):
                for i, row in zip(part, ids):
                    answers[i] = row[: limits[i]]
        return answers

    def scores(
        self,
        texts: Sequence[str],
        candidates: Sequence[str],
        prompt: Prompts = None,
    ) -> np.ndarray:
        if not candidates:
            raise invalid("candidates", "must hold at least one text", f"{candidates!r}")
        rows = self.token_rows(texts)
        targets = self.token_rows(
            candidates, "candidates", max(self.facts[name] for name in _LENGTHS)
        )
        prompts = self.prompts_of_rows(prompt, len(rows))

        def compute(part: Sequence[int]) -> np.ndarray:
            return self.score_ids([rows[i] for i in part], [prompts[i] for i in part], targets)

        result = np.zeros((len(rows), len(targets)), "float32")
        for chunk in self._chunks(rows, self.rows_at_once(targets)):
            for part, scores in self._parts(compute, chunk):
                result[part] = scores
        return result

    def rows_at_once(self, candidates: Rows) -> int:
        """Return how many rows are scored at once: long candidates have many logits."""
        of_a_row = max(map(len, candidates)) * self.known
        return max(1, min(self.batch_size, LOGITS // of_a_row))

    def token_rows(
        self, texts: Sequence[str], argument: str = "texts", limit: int | None = None
    ) -> list[list[int]]:
        """Return token ids for each text: cut to `limit` (the input length), end token last."""
        limit = (limit or self.facts["max_input_length"]) - 1
        rows = self.pieces.encode(clean(argument, texts))
        return [[*row[:limit], self.end] for row in rows]

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, without special and unknown ones."""
        kept = [int(i) for i in ids if i not in (self.pad, self.end) and i < self.known]
        return str(self.pieces.decode(kept)) if kept else ""

    def _chunks(self, rows: Rows, size: int | None = None) -> Iterator[list[int]]:
        """Yield the numbers of the rows of each batch (of `size`), sorted by length."""
        order, size = sorted(range(len(rows)), key=lambda i: len(rows[i])), size or self.batch_size
        for start in range(0, len(order), size):
            yield order[start : start + size]

    def _arrange(self, threads: int, cores: int) -> None:
        """Load the model for so many threads a part, and as many parts as there are cores for."""
        self.threads, self._parts = threads, Parts(max(1, cores // threads))
        with reading.parsing(self.folder, WRITTEN, "folder"):
            self.load(threads, self._parts.count)

    def _seconds_of_a_text(self) -> float:
        """Return how long one short text takes; the best of some."""
        row = [[self.end] * min(21, self.facts["max_input_length"])]
        best = float("inf")
        for _ in range(_TRIES):
            began = time.perf_counter()
            self.generate_ids(row, [next(iter(self.cards))], 4)
            best = min(best, time.perf_counter() - began)
        return best

"""From the body of a request to the body of its answer, whatever carries them."""

import asyncio
import functools
import logging
from collections.abc import Sequence
from typing import Any

from keras_spot.base.errors import InvalidArgument
from keras_spot.serving import requests
from keras_spot.serving.batching import Batcher
from keras_spot.serving.limits import Limits, Refused
from keras_spot.serving.models import EVERY, Models, Served
from keras_spot.serving.requests import Question, Request
from keras_spot.serving.telemetry import Telemetry

__all__ = ["ENGINE_FAILED", "VERBS", "VERSION", "Handler", "log"]

log = logging.getLogger("keras_spot.serving")

VERBS = ("predict", "classify")
VERSION = "1"  # the only one, in TensorFlow Serving's sense
ENGINE_FAILED = "the engine failed; the server's log says where"
_EMPTY: dict[str, dict[str, Any]] = {
    "serving_default": {"outputs": ""},
    "classify": {"label": "", "labels": [], "probabilities": []},
    "score": {"scores": []},
}
_SHAPE = {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
_TEXTS, _NUMBERS = (
    {"dtype": kind, "tensor_shape": _SHAPE, "name": ""} for kind in ("DT_STRING", "DT_FLOAT")
)


class Handler:
    """What answers requests.

    Args:
        models: what is served.
        limits: what a request may be. Default: see `Limits`.
        log_texts: write the texts of requests and their answers into the log. Default False.
        watch_seconds: how often the folder of prompts is looked at. Default 1.
    """

    def __init__(
        self,
        models: Models,
        limits: Limits | None = None,
        log_texts: bool = False,
        watch_seconds: float = 1.0,
    ) -> None:
        self.models, self.limits = models, limits or Limits()
        self._log_texts, self._watch_seconds = log_texts, watch_seconds
        self.telemetry = Telemetry(lambda: len(self._batcher), lambda: len(models.served))
        self._batcher = Batcher(self.limits.batch, self.limits.queue, self.telemetry.batch)
        self._watcher: asyncio.Task[None] | None = None
        self.stopping = False

    # === Life ===

    async def start(self) -> None:
        """Begin to look at the folder of prompts."""
        if self.models.folder is not None:
            self._watcher = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Answer what waits, then stop."""
        self.stopping = True
        if self._watcher is not None:
            self._watcher.cancel()
        await self._batcher.close()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._watch_seconds)
            try:
                await loop.run_in_executor(None, self.models.refresh)
            except Exception as error:  # a file system that comes back is looked at again
                name = type(error).__name__
                log.warning("the folder of prompts cannot be read: %s: %s", name, error)

    # === Requests ===

    async def answer(self, name: str, verb: str, body: bytes) -> dict[str, Any]:
        """Return the answer to a request.

        Args:
            name: a prompt's, or `EVERY`, where each row names its own.
            verb: one of `VERBS`.
            body: JSON, see `requests`.

        Raises:
            Refused: with a status and a message for the caller.
        """
        if verb not in VERBS:
            raise Refused(404, f"no such verb: {verb[:100]!r} (known: {', '.join(VERBS)})")
        served = None if name == EVERY else self.models.get(name)
        request = requests.parse(verb, body, served is None, self.limits)
        rows = await self._rows(request, served)
        if self._log_texts:
            for question, row in zip(request.questions, rows):
                log.info("%r -> %r", question.given, row)
        failed = sum(bool(row["error"]) for row in rows)
        self.telemetry.rows(len(rows) - failed, failed)
        if failed == len(rows):
            raise Refused(500 if rows[0]["error"] == ENGINE_FAILED else 422, rows[0]["error"])
        return requests.answer_of(request, rows)

    async def _rows(self, request: Request, served: Served | None) -> list[dict[str, Any]]:
        """Return the outputs of each row; one that cannot be answered has an `error`."""
        errors: list[str] = []
        jobs = []
        for question in request.questions:
            try:
                own = served or self.models.get(question.prompt or "")
                jobs.append(_job(request.signature, question, own))
                errors.append("")
            except Refused as refused:
                errors.append(refused.message)
            except InvalidArgument as error:
                errors.append(str(error))
        results = iter(await self._batcher.compute(jobs))
        rows = []
        for message in errors:
            outputs = _EMPTY[request.signature] if message else next(results)
            if isinstance(outputs, Exception):
                outputs, message = _EMPTY[request.signature], ENGINE_FAILED
            rows.append({**outputs, "error": message})
        return rows

    # === What there is ===

    def status(self, name: str) -> dict[str, Any]:
        """Return a model's status in TensorFlow Serving's form; raises `Refused` if unknown."""
        if name != EVERY:
            self.models.get(name)
        state = {
            "version": VERSION,
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
        return {"model_version_status": [state]}

    def metadata(self, name: str) -> dict[str, Any]:
        """Return a model's signatures in TensorFlow Serving's form, and its task's card."""
        card = None if name == EVERY else self.models.get(name).card
        names = ["text", "prompt"] if card is None else card.fields
        without = () if card is None or card.labels else ("classify",)
        signatures = {
            name: {
                "inputs": dict.fromkeys(names, _TEXTS),
                "outputs": {
                    key: _NUMBERS if key in ("probabilities", "scores") else _TEXTS
                    for key in (*outputs, "error")
                },
            }
            for name, outputs in _EMPTY.items()
            if name not in without
        }
        return {
            "model_spec": {"name": name, "signature_name": "", "version": VERSION},
            "metadata": {
                "signature_def": {"signature_def": signatures},
                "task": None if card is None else card.record(),
            },
        }

    def listing(self) -> dict[str, Any]:
        """Return what is served, and what in the folder of prompts is not."""
        problems = {} if self.models.folder is None else dict(self.models.folder.problems)
        return {"models": self.models.record(), "every": EVERY, "problems": problems}


# === Computing ===


def _job(signature: str, question: Question, served: Served) -> tuple[Any, Any, Any]:
    """Return the group, the function and the input of a row, see `batching.Job`.

    Raises:
        InvalidArgument: fields that the template does not have, or no labels to choose from.
    """
    text = served.card.text(question.given)
    engine = served.engine
    if signature == "classify":
        if not served.card.labels:
            raise Refused(422, f"{served.name!r} has no labels; ask :predict")
        compute = functools.partial(_classify, engine)
    elif signature == "score":
        compute = functools.partial(_score, engine, question.candidates)
    else:
        compute = functools.partial(_generate, engine)
    return (id(engine), signature, question.candidates), compute, (text, served.prompt)


def _generate(engine: Any, given: Sequence[tuple[str, Any]]) -> list[dict[str, Any]]:
    return [{"outputs": answer} for answer in engine.generate(*map(list, zip(*given)))]


def _classify(engine: Any, given: Sequence[tuple[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for shares in engine.classify(*map(list, zip(*given))):
        label = max(shares, key=shares.__getitem__)
        rows.append(
            {"label": label, "labels": list(shares), "probabilities": list(shares.values())}
        )
    return rows


def _score(
    engine: Any, candidates: Sequence[str], given: Sequence[tuple[str, Any]]
) -> list[dict[str, Any]]:
    texts, prompts = map(list, zip(*given))
    return [{"scores": row.tolist()} for row in engine.scores(texts, candidates, prompts)]

"""Do exported forms answer as the model does? Real texts, task by task.

    python -m tools.agreement --data-dir DIR            # 500 texts a task
    python -m tools.agreement --data-dir DIR --limit 50 --forms onnx ctranslate2

It takes the prompts that a study of the embedded backbone left, exports them as one bank into each
form, and compares greedy answers token by token and labels by rank classification. It prints a
table in Markdown: how many answers and labels are the model's own, and the task's score by labels.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_spot import build, load_examples, metrics, prompts, tasks
from keras_spot.model.texts import pad_rows
from keras_spot.serving.engines import open_engine
from keras_spot.serving.engines.base import TokenEngine

PROMPTS = Path(__file__).resolve().parents[1] / "examples" / "studies" / "tiny" / "embeddings"
# The form and what its export is given.
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "ctranslate2": ("ctranslate2", {}),
    "ctranslate2-int8": ("ctranslate2", {"quantize": "int8"}),
    "onnx": ("onnx", {}),
    "onnx-int8": ("onnx", {"quantize": "int8"}),
    "transformers": ("transformers", {}),  # with `[parity]`
}
_LENGTH = 8  # target tokens
_INPUTS = ("encoder_token_ids", "encoder_padding_mask", "decoder_token_ids", "decoder_padding_mask")


class TransformersEngine(TokenEngine):
    """A folder for transformers, with its own tokenizer."""

    name = "transformers"

    def __init__(self, folder: Path) -> None:
        import transformers

        super().__init__(folder)
        self._model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def token_rows(self, texts: Any, argument: str = "texts") -> list[list[int]]:
        limit = self.facts["max_input_length"]
        return self._tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"]

    def generate_ids(self, rows: Any, prompts: Any, length: int) -> list[list[int]]:
        made = self._model.generate(**self._inputs(rows, prompts), max_new_tokens=length)
        return [_before_end(row[1:].numpy()) for row in made]

    def score_ids(self, rows: Any, prompts: Any, candidates: Any) -> np.ndarray:
        import torch

        inputs, columns = self._inputs(rows, prompts), []
        for target in candidates:
            labels = torch.tensor([target] * len(rows))
            with torch.no_grad():
                logits = self._model(**inputs, labels=labels).logits.log_softmax(-1)
            columns.append(logits.gather(-1, labels[..., None]).sum((1, 2)).numpy())
        return np.stack(columns, axis=1)

    def _inputs(self, rows: Any, prompts: Any) -> dict[str, Any]:
        import torch

        ids = self._tokenizer.convert_tokens_to_ids
        whole = [[*ids(self.facts["words"][name]), *row] for row, name in zip(rows, prompts)]
        return {
            key: torch.tensor(value)
            for key, value in zip(("input_ids", "attention_mask"), pad_rows(whole))
        }


@dataclasses.dataclass(frozen=True)
class Row:
    """What one form made of one task.

    Attributes:
        task, form: their names.
        texts: how many were read.
        answers: how many greedy answers are the model's, token by token.
        labels: how many labels by rank classification are the model's.
        score: of the task, by those labels.
        own: that of the model itself.
    """

    task: str
    form: str
    texts: int
    answers: int
    labels: int
    score: float
    own: float


def compare(
    model: Any, engines: dict[str, Any], task: tasks.Task, examples: Sequence[tasks.Example]
) -> Iterator[Row]:
    """Yield a row for each form; a prompt of the bank has the task's name."""
    texts = [example.input for example in examples]
    ids = model_ids(model, texts, task.name)
    labels = best(model.ranker.log_likelihoods(texts, task.labels, prompt=task.name))
    own = score(task, labels, examples)
    for form, engine in engines.items():
        same = sum(a == b for a, b in zip(engine_ids(engine, texts, task.name), ids))
        theirs = best(engine.scores(texts, task.labels, task.name))
        agreed = int((theirs == labels).sum())
        yield Row(task.name, form, len(texts), same, agreed, score(task, theirs, examples), own)


def model_ids(model: Any, texts: Sequence[str], prompt: str) -> list[list[int]]:
    """Return the tokens of the model's greedy answers, without the end token."""
    rows = model.token_rows(list(texts))
    step, answers = model.make_generate_function(), []
    for start in range(0, len(rows), 32):
        ids, mask = pad_rows(rows[start : start + 32])
        begin = np.zeros((len(ids), _LENGTH + 1), "int32")
        given = begin.copy()
        given[:, 0] = 1
        batch = dict(zip(_INPUTS, (ids, mask, begin, given)))
        batch["prompt_index"] = model.prompt_numbers(prompt, len(ids))
        out = step(batch, stop_token_ids=(1,))
        answers += [_before_end(row) for row in np.asarray(out["decoder_token_ids"])[:, 1:]]
    return answers


def _before_end(ids: np.ndarray) -> list[int]:
    row = ids.tolist()
    return row[: row.index(1)] if 1 in row else row


def engine_ids(engine: Any, texts: Sequence[str], prompt: str) -> list[list[int]]:
    """Return the tokens of an engine's greedy answers."""
    rows = engine.token_rows(texts)
    answers: list[list[int]] = []
    for start in range(0, len(rows), 32):
        block = rows[start : start + 32]
        answers += engine.generate_ids(block, [prompt] * len(block), _LENGTH)
    return answers


def best(likelihoods: np.ndarray) -> np.ndarray:
    """Return the number of each row's likeliest label."""
    return likelihoods.argmax(axis=1)


def score(task: tasks.Task, labels: np.ndarray, examples: Sequence[tasks.Example]) -> float:
    """Return the task's score of labels by number."""
    return metrics.score(task, [task.labels[i] for i in labels], examples)["score"]


def bank(files: Sequence[Path]) -> Any:
    """Return a bank of prompts, the first of each task, named after the tasks."""
    chosen: dict[str, Path] = {}
    for file in files:
        chosen.setdefault(prompts.read_provenance(file)["task"], file)
    names = list(chosen)
    return build("tiny", list(chosen.values()), prompt_names=names, target_length=_LENGTH)


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, a line for each task."""
    forms = list(dict.fromkeys(row.form for row in rows))
    head = ["task", "texts", "score", *(f"{form}: answers, labels, score" for form in forms)]
    lines = [head, ["---"] * len(head)]
    for task in dict.fromkeys(row.task for row in rows):
        own = {row.form: row for row in rows if row.task == task}
        first = next(iter(own.values()))
        cells = [
            f"{100 * row.answers / row.texts:.1f}%, {100 * row.labels / row.texts:.1f}%, "
            f"{row.score - row.own:+.1f}"
            for row in own.values()
        ]
        lines.append([task, str(first.texts), f"{first.own:.1f}", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--prompts", type=Path, default=PROMPTS)
    parser.add_argument("--limit", type=int, default=500)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS)[:4])
    given = parser.parse_args()
    model = bank(sorted(given.prompts.glob("*.npz")))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        engines: dict[str, TokenEngine] = {}
        for name in given.forms:
            form, options = FORMS[name]
            model.export(Path(scratch, name), form, tasks=list(model.prompt_names), **options)
            open_form = TransformersEngine if form == "transformers" else open_engine
            engines[name] = open_form(Path(scratch, name))
        for name in model.prompt_names:
            task = tasks.get(name)
            read = load_examples(
                task, task.validation[0], data_dir=given.data_dir, limit=given.limit, labelled=True
            )
            made = list(compare(model, engines, task, list(read)))
            rows += made
            for row in made:
                print(row, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()

"""Answers with a T5 for ONNX Runtime, exported by keras_spot.

It needs onnxruntime, sentencepiece and numpy, and nothing of that package. As a module it has
`Answerer("folder").generate(texts, prompts)`; as a program `python answer.py PROMPT TEXT...`.
"""

import json
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["Answerer", "Rows"]

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
Rows = Sequence[Sequence[int]]  # token ids, a list for each text


class Answerer:
    """Decodes greedily, and tells how likely texts are.

    Args:
        folder: with the two graphs, `task.json` and `spiece.model`.
        threads: of one product. Default 0: ONNX Runtime's own choice.
        providers: ONNX Runtime's, such as `["CUDAExecutionProvider"]`. Default: the CPU.

    Attributes:
        prompts: the prompts' names, in the order of their numbers.
        facts: what `task.json` holds.
    """

    def __init__(
        self,
        folder: str | pathlib.Path = ".",
        threads: int = 0,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        import onnxruntime
        import sentencepiece

        folder = pathlib.Path(folder)
        self.facts = json.loads((folder / "task.json").read_text(encoding="utf-8"))
        self.prompts = list(self.facts["prompts"])
        self.pieces = sentencepiece.SentencePieceProcessor(str(folder / "spiece.model"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # not that prompts may be replaced
        if not _adds_up_8_bits():
            options.add_session_config_entry("session.x64quantprecision", "1")
        self._value = onnxruntime.OrtValue.ortvalue_from_numpy
        self._encoder, self._decoder = (
            onnxruntime.InferenceSession(str(folder / file), options, providers=list(providers))
            for file in (ENCODER, DECODER)
        )
        outputs = [output.name for output in self._decoder.get_outputs()]
        self._present = [name for name in outputs if name.startswith("present_")]
        past = {i.name: i.shape for i in self._decoder.get_inputs() if i.name.startswith("past_")}
        _, self._heads, _, self._width = next(iter(past.values()))
        self._cross = [output.name for output in self._encoder.get_outputs()]

    def generate(
        self,
        texts: Sequence[str],
        prompts: Sequence[str] | None = None,
        max_length: int | None = None,
    ) -> list[str]:
        """Return the answer to each text.

        Args:
            texts: a list of texts.
            prompts: the name of each text's prompt. Default: the first.
            max_length: target tokens at most. Default: what `task.json` says of each prompt.

        Raises:
            ValueError: an unknown prompt, or another number of them than of texts.
        """
        names = [self.prompts[0]] * len(texts) if prompts is None else list(prompts)
        unknown = [name for name in names if name not in self.prompts]
        if unknown or len(names) != len(texts):
            known = ", ".join(self.prompts)
            raise ValueError(f"`prompts` must be one of {known} for each text. Received: {names}")
        if not texts:
            return []
        general = self.facts["max_target_length"]
        own = [self.facts["prompts"][name].get("max_target_length") for name in names]
        limits = [max_length or length or general for length in own]
        rows = [self.tokens(text) for text in texts]
        numbers = [self.prompts.index(name) for name in names]
        answers = self.generate_ids(rows, numbers, max(limits))
        return [self.text(ids[:limit]) for ids, limit in zip(answers, limits)]

    def tokens(self, text: str) -> list[int]:
        """Return the token ids of a text: cut to the input length, end token last."""
        limit = self.facts["max_input_length"] - 1
        return [*self.pieces.encode(text)[:limit], self.pieces.eos_id()]

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, without special and unknown ones."""
        special = (self.pieces.pad_id(), self.pieces.eos_id())
        known = self.pieces.vocab_size()
        kept = [i for i in ids if i not in special and i < known]
        return self.pieces.decode(kept) if kept else ""

    def generate_ids(
        self,
        rows: Rows,
        numbers: Sequence[int],
        length: int,
        prompts: np.ndarray | None = None,
    ) -> list[list[int]]:
        """Return at most `length` token ids for each row, without the end token.

        Args:
            rows: lists of token ids, end token last.
            numbers: the number of each row's prompt.
            length: target tokens at most.
            prompts: other prompts, float32 `[K, P, H]`, instead of those in the graph.
        """
        if not rows:
            return []
        fixed, past = self._encode(rows, numbers, prompts)
        token = np.zeros((len(rows), 1), "int64")
        ended = np.zeros(len(rows), bool)
        answers: list[list[int]] = [[] for _ in rows]
        for _ in range(length):
            best, past = self._step("next_ids", token, fixed, past)
            token = best.numpy()
            ended |= token[:, 0] == self.pieces.eos_id()
            if ended.all():
                break
            for answer, last, done in zip(answers, token[:, 0].tolist(), ended):
                if not done:
                    answer.append(last)
        return answers

    def score_ids(
        self,
        rows: Rows,
        numbers: Sequence[int],
        candidates: Rows,
        prompts: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the log-likelihood of each candidate after each row, float32 `[B, C]`.

        Args:
            rows, numbers, prompts: as of `generate_ids`.
            candidates: lists of token ids, end token last.
        """
        fixed, past = self._encode(rows, numbers, prompts)
        scores = np.zeros((len(rows), len(candidates)), "float32")
        for column, target in enumerate(candidates):
            inputs = np.tile(np.array([[0, *target[:-1]]], "int64"), (len(rows), 1))
            logits = self._step("logits", inputs, fixed, past)[0].numpy()
            logits -= logits.max(axis=-1, keepdims=True)
            own = logits[:, np.arange(len(target)), target]
            scores[:, column] = (own - np.log(np.exp(logits).sum(axis=-1))).sum(axis=-1)
        return scores

    def logits(
        self,
        rows: Rows,
        numbers: Sequence[int],
        inputs: np.ndarray,
        prompts: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the logits `[B, D, V]` of decoder inputs `[B, D]`, start token first."""
        fixed, past = self._encode(rows, numbers, prompts)
        return self._step("logits", inputs, fixed, past)[0].numpy()

    def _encode(
        self, rows: Rows, numbers: Sequence[int], prompts: np.ndarray | None
    ) -> tuple[dict[str, Any], list[Any]]:
        """Return what stays the same for every step, and the empty past."""
        ids = np.zeros((len(rows), max(map(len, rows))), "int64")
        mask = np.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            mask[i, : len(row)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask}
        inputs["prompt_index"] = np.array(numbers, "int64")
        if prompts is not None:
            inputs["prompts"] = prompts
        values = {name: self._value(array) for name, array in inputs.items()}
        cross = self._encoder.run_with_ort_values(self._cross, values)
        fixed = {**dict(zip(self._cross, cross)), "attention_mask": values["attention_mask"]}
        empty = np.zeros((len(rows), self._heads, 0, self._width), "float32")
        return fixed, [self._value(empty) for _ in self._present]

    def _step(
        self, output: str, inputs: np.ndarray, fixed: dict[str, Any], past: list[Any]
    ) -> tuple[Any, list[Any]]:
        """Return an output of the decoder and the new past."""
        names = [name.replace("present_", "past_") for name in self._present]
        values = {"input_ids": self._value(inputs), **fixed, **dict(zip(names, past))}
        first, *present = self._decoder.run_with_ort_values([output, *self._present], values)
        return first, present


def _adds_up_8_bits() -> bool:
    """Return whether the processor says that it sums products of 8 bits without an overflow.

    Other x86 processors lose some; ONNX Runtime then has a kernel that is right and half as fast.
    """
    try:
        facts = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return re.search(r"\b(avx512_vnni|avx_vnni|amx_int8)\b", facts) is not None


if __name__ == "__main__":
    answerer = Answerer(pathlib.Path(__file__).parent)
    if len(sys.argv) < 3 or sys.argv[1] not in answerer.prompts:
        names = ", ".join(answerer.prompts)
        sys.exit(f"usage: python answer.py PROMPT TEXT...\nprompts: {names}")
    for text in sys.argv[2:]:
        print(answerer.generate([text], [sys.argv[1]])[0])

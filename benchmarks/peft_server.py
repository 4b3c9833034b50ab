"""PEFT's prompt tuning behind this package's server: `python -m benchmarks.peft_server FOLDER 8`.

FOLDER holds `backbone`, a Hugging Face T5, and `prompt.npy`; it answers with 8 tokens. It needs
`[parity]`.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import peft
import sentencepiece
import torch
import transformers

from keras_spot import backbones
from keras_spot.serving import server
from keras_spot.serving.engines import Engine
from keras_spot.serving.handler import Handler
from keras_spot.serving.limits import Limits
from keras_spot.serving.models import Models
from keras_spot.tasks.card import TaskCard


class PeftEngine(Engine):
    """Greedy answers by `PeftModel.generate`, in float32."""

    name = "peft"

    def __init__(self, folder: Path, length: int) -> None:
        transformers.logging.set_verbosity_error()
        base = transformers.T5ForConditionalGeneration.from_pretrained(
            folder / "backbone", dtype=torch.float32
        )
        base.generation_config.eos_token_id = None  # as many tokens as the others make
        values = np.load(folder / "prompt.npy")
        config = peft.PromptTuningConfig(
            task_type="SEQ_2_SEQ_LM", num_virtual_tokens=len(values), num_transformer_submodules=1
        )
        self.model: Any = peft.get_peft_model(base, config).eval()
        self.model.prompt_encoder["default"].embedding.weight.data = torch.tensor(values)
        vocabulary = backbones.EMBEDDED["tiny"] / "assets" / "tokenizer" / "vocabulary.spm"
        self.pieces: Any = sentencepiece.SentencePieceProcessor(str(vocabulary))
        self.length = length
        self.cards = {"one": TaskCard("one", max_target_length=length)}
        self.facts = {"max_input_length": 512, "max_target_length": length}

    def generate(self, texts: Any, prompt: Any = None, max_length: int | None = None) -> list[str]:
        rows = [[*self.pieces.encode(text)[:511], self.pieces.eos_id()] for text in texts]
        ids = torch.zeros((len(rows), max(map(len, rows))), dtype=torch.long)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
        asked = {"input_ids": ids, "attention_mask": (ids != 0).long()}
        with torch.inference_mode():
            answers = self.model.generate(**asked, max_new_tokens=self.length, do_sample=False)
        known = self.pieces.vocab_size()
        return [self.pieces.decode([i for i in row if 2 < i < known]) for row in answers.tolist()]

    def scores(self, texts: Any, candidates: Any, prompt: Any = None) -> np.ndarray:
        raise NotImplementedError


def main(folder: Path, length: int) -> None:
    """Serve until a signal, at a free port that is printed."""
    handler = Handler(Models([PeftEngine(folder, length)]), Limits(seconds=600.0))
    sock = server.bind("127.0.0.1", 0)
    server.run(handler, sock, lambda: print(f"serving at {server.address(sock)}", flush=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

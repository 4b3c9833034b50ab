"""The worker that runs PEFT's prompt tuning on transformers' T5: `python -m benchmarks.peer`.

It runs in an environment of its own, which has neither TensorFlow nor keras_spot.
"""

import gc
import time
import warnings
from typing import Any

import numpy as np
import peft
import torch
import transformers

from benchmarks import process, workload
from benchmarks.protocol import serve

THREADS = process.threads()
torch.set_num_threads(THREADS)
warnings.filterwarnings("ignore")
models: dict[str, Any] = {}


def hello() -> dict[str, str]:
    """Return the versions."""
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
    }


def gemm(dtype: str, size: int) -> float:
    """Return torch's GFLOP/s of a product of square matrices."""
    a = torch.randn(size, size).to(getattr(torch, dtype))
    return process.gemm_rate(lambda: a @ a, size)


def load(
    backbone: str, prompt: list[int], precision: str = "float32", key: str = "model"
) -> dict[str, Any]:
    """Build a model under `key`; return the seconds that took and how attention is computed.

    Args:
        backbone: folder.
        prompt: its length and width.
        precision: `"float32"`; `"bfloat16"`, weights and activations; or `"autocast"`, float32
            weights and bfloat16 products.
    """
    began = time.perf_counter()
    base = transformers.T5ForConditionalGeneration.from_pretrained(backbone, dtype=torch.float32)
    base.generation_config.eos_token_id = None  # all rows decode to the given length
    length, width = prompt
    config = peft.PromptTuningConfig(
        task_type="SEQ_2_SEQ_LM", num_virtual_tokens=length, num_transformer_submodules=1
    )
    model = peft.get_peft_model(base, config)
    if precision == "bfloat16":
        base.to(torch.bfloat16)
    weight = model.prompt_encoder["default"].embedding.weight
    weight.data = torch.tensor(workload.prompt(length, width))
    (trainable,) = [p for p in model.parameters() if p.requires_grad]
    assert trainable is weight
    optimizer = transformers.Adafactor(
        [trainable],
        lr=0.3,
        scale_parameter=False,
        relative_step=False,
        warmup_init=False,
        weight_decay=0.0,
    )
    models[key] = model, optimizer, precision == "autocast"
    return {
        "seconds": time.perf_counter() - began,
        "attention": base.config._attn_implementation,
    }


def free() -> None:
    """Forget all models."""
    models.clear()
    gc.collect()


def _train(key: str, inputs: dict[str, torch.Tensor]) -> float:
    model, optimizer, autocast = models[key]
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = model(**inputs).loss
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def _inputs(ids: np.ndarray, targets: np.ndarray | None = None) -> dict[str, torch.Tensor]:
    """Return arguments of the model; zeros are padding."""
    batch = {
        "input_ids": torch.tensor(ids, dtype=torch.long),
        "attention_mask": torch.tensor(ids != 0, dtype=torch.long),
    }
    if targets is not None:
        batch["labels"] = torch.tensor(np.where(targets == 0, -100, targets), dtype=torch.long)
    return batch


def step(rows: int, tokens: int, targets: int, count: int, key: str = "model") -> dict[str, Any]:
    """Make training steps on one batch; return their laps and the first one's loss."""
    model, _, _ = models[key]
    model.train()
    inputs = _inputs(*workload.batch(rows, tokens, targets, model.config.vocab_size))
    losses: list[float] = []
    samples = process.repeated(lambda: losses.append(_train(key, inputs)), count)
    return {**samples, "loss": losses[:1]}


def generate(
    rows: int, tokens: int, length: int, count: int, key: str = "model", pieces: int | None = None
) -> dict[str, Any]:
    """Decode `length` tokens greedily, `count` times; return the laps and the ids.

    Args:
        pieces: input ids are below this number. Default: the vocabulary's size.
    """
    model, _, autocast = models[key]
    model.eval()
    ids, _ = workload.batch(rows, tokens, 1, pieces or model.config.vocab_size)
    inputs = _inputs(ids)
    answers: list[torch.Tensor] = []

    def work() -> None:
        answers[:] = [model.generate(**inputs, max_new_tokens=length, do_sample=False)]

    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        samples = process.repeated(work, count)
    return {**samples, "ids": answers[0][:, 1:].tolist()}


def epoch(path: str, rows: int, key: str = "model") -> dict[str, Any]:
    """Train an epoch on the examples of an .npz file in random order.

    They are tokenised beforehand; inputs and targets are padded to the longest of their batch.

    Returns:
        The lap, and how many positions of input the batches had.
    """
    models[key][0].train()
    laps, positions = process.Laps(), 0
    with laps.lap():
        for inputs, targets in _batches(path, rows):
            positions += inputs.size
            _train(key, _inputs(inputs, targets))
    return {**laps.samples, "positions": [positions]}


def decode(path: str, rows: int, length: int, key: str = "model") -> dict[str, Any]:
    """Decode `length` tokens for each input of an .npz file, padded to the longest of a batch."""
    model, _, autocast = models[key]
    model.eval()

    def work() -> None:
        for ids, _ in _batches(path, rows):
            model.generate(**_inputs(ids), max_new_tokens=length, do_sample=False)

    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        return process.repeated(work, 1)


def padded_steps(
    path: str, rows: int, tokens: int, count: int, key: str = "model"
) -> dict[str, list[float]]:
    """Return the laps of steps on full batches of the file, all padded to `tokens`."""
    models[key][0].train()
    laps = process.Laps()
    for _, (inputs, targets) in zip(range(count), _batches(path, rows)):
        wide = np.pad(inputs, [[0, 0], [0, tokens - inputs.shape[1]]])
        with laps.lap():
            _train(key, _inputs(wide, targets))
    return laps.samples


def _batches(path: str, rows: int) -> Any:
    """Yield input ids and target ids of batches in random order, padded with 0."""
    with np.load(path) as file:
        inputs, targets = (
            np.split(file[name], np.cumsum(file[f"{name[:-1]}_lengths"])[:-1])
            for name in ("inputs", "targets")
        )
    order = np.random.default_rng(3).permutation(len(inputs))
    for first in range(0, len(order), rows):
        chosen = order[first : first + rows]
        yield _padded([inputs[i] for i in chosen]), _padded([targets[i] for i in chosen])


def _padded(rows: list[np.ndarray]) -> np.ndarray:
    padded = np.zeros((len(rows), max(map(len, rows))), "int32")
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded


FUNCTIONS = (hello, gemm, load, free, step, generate, decode, epoch, padded_steps)
FUNCTIONS += (process.memory, process.forget_peak)

if __name__ == "__main__":
    serve({function.__name__: function for function in FUNCTIONS})

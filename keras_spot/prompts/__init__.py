"""A soft prompt with its provenance, and every form it has on disk or on another machine.

| form | path | provenance it keeps |
|---|---|---|
| `npy` | `*.npy` | none |
| `npz`, our own | `*.npz` with the arrays `prompt` and `provenance` (JSON) | everything |
| a folder or repository, read only | one with `prompt.npz` | everything |
| `reference` | `.../checkpoint_{step}/encoder.prompt.prompt.prompt` (`.npy` bytes) | the step |
| a run, read only | `numpy_checkpoints/checkpoint_{step}/...`, perhaps `run.json` | its own |
| `peft` | folder with `adapter_config.json`, `adapter_model.safetensors` | everything |
| T5X checkpoint, read only | folder with `checkpoint` (msgpack) and zarr arrays | the step |

Any of them may lie at an address of `keras_spot.base.remote` (`hf://`, `gs://`, `https://`). The
reference is google-research/prompt-tuning. Files are inert: nothing is ever unpickled, and size,
dtype and shape are checked before the data are read. NumPy alone, except that PEFT adapters
take safetensors and T5X checkpoints the extra `[t5x]`.
"""

from keras_spot.prompts.forms.reference import (
    CHECKPOINTS,
    REFERENCE_NAME,
    RUN_FILE,
    read_run,
    step_path,
    steps,
)
from keras_spot.prompts.prompt import Prompt, as_prompt
from keras_spot.prompts.store import (
    destination,
    locate,
    read,
    read_header,
    read_provenance,
    write,
)

__all__ = [
    "CHECKPOINTS",
    "REFERENCE_NAME",
    "RUN_FILE",
    "Prompt",
    "as_prompt",
    "destination",
    "locate",
    "read",
    "read_header",
    "read_provenance",
    "read_run",
    "step_path",
    "steps",
    "write",
]

"""Files of other people, read within limits.

Every reader of the package goes through here. Whatever a file holds, reading it ends in what it
says, in an `OSError` that names it, or in `DamagedFile`, which names file, place and rule; never in
an error of some library's own. Sizes that a file declares are compared with the bytes that are
there before anything of that size is made, and nothing is evaluated or unpickled.

| module | files |
|---|---|
| `text` | JSON, JSON lines, YAML |
| `arrays` | `.npy`, `.npz` |
| `tensors` | safetensors |
| `zarr` | zarr arrays, as T5X writes them |
| `hdf5` | weights of KerasHub presets: what they declare |

Texts are read without NumPy, so only their functions stand here.
"""

from keras_spot.base.reading.files import naming, open_file, parsing, read_bytes, read_text
from keras_spot.base.reading.text import (
    parse_json,
    read_json,
    read_json_lines,
    read_record,
    read_yaml,
    read_yaml_or_json,
)

__all__ = [
    "naming",
    "open_file",
    "parse_json",
    "parsing",
    "read_bytes",
    "read_json",
    "read_json_lines",
    "read_record",
    "read_text",
    "read_yaml",
    "read_yaml_or_json",
]

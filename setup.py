"""Packaging; the tools' settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+?)"',
    (HERE / "keras_spot" / "base" / "versions.py").read_text(encoding="utf-8"),
)[1]

RAY = ["ray>=2.40,<3"]
RAY_SERVE = ["ray[serve]>=2.50,<3"]  # applications are built by the replicas themselves
PLOTS = ["matplotlib>=3.8"]
# No TensorStore, no safetensors to read with: the one makes whatever a checkpoint declares and ends
# the interpreter at 10^9 x 10^5 numbers; the other maps files and ends it when one is cut short
# meanwhile. `base/reading` reads both formats within limits. Of zarr's compressors it knows those
# of Python: gzip, which T5X writes, zlib and bz2; blosc, lz4 and zstd are refused by name.
T5X = ["msgpack>=1,<2"]
GCS = ["gcsfs>=2024.6,<2027"]
# An ASGI application needs little: addresses, a process, numbers to watch.
SERVE = [
    "prometheus-client>=0.20,<1",
    "starlette>=0.40",  # its asynchronous core is stable from 0.40 to 1.x
    "uvicorn>=0.30,<1",
    "httptools>=0.6,<1",  # parses HTTP in C; uvicorn takes it where it is there
]
# Each is an engine's own library; 0.2 of sentencepiece is what KerasHub brings anyway. Graphs are
# written in ONNX's opset 20, with onnx alone.
CTRANSLATE2 = ["ctranslate2>=4.5,<5", "sentencepiece>=0.2"]
ONNX = ["onnx>=1.17,<2", "onnxruntime>=1.19,<2", "sentencepiece>=0.2"]
JAX = ["jax>=0.9,<0.11"]  # on accelerators besides jax[cuda12] or jax[tpu] of the same version
TPU = ["jax[tpu]>=0.9,<0.11"]  # with the libtpu of its own version; Linux on x86
# Newer torch wheels bring CUDA, several gigabytes.
PARITY = ["peft>=0.17", "torch>=2.6,<2.14", "transformers>=5"]
# From 0.0.74 on it needs a package that not every index serves.
DOCS = ["zensical>=0.0.73,<0.0.74", "mkdocstrings-python>=2,<3"]
DEV = [
    "build>=1",
    "hypothesis>=6.100",
    "ipykernel>=6.29",  # runs the notebooks of examples/
    "mypy>=1.10",
    "nbclient>=0.10",
    "pyright[nodejs]>=1.1.400",  # else it fetches Node.js when it first runs
    "pytest>=8",
    "pytest-xdist>=3.6,<4",
    "ruff>=0.9",
    "sentencepiece>=0.2",
    "tensorstore>=0.1.60,<0.2",  # writes what the reader of T5X checkpoints is tested with
    "twine>=6",
    "types-PyYAML",
]

setup(
    name="keras-spot",
    version=VERSION,
    description="Soft prompt tuning and transfer (SPoT) for a frozen T5, in Keras",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["keras_spot", "keras_spot.*"]),
    package_data={"keras_spot": ["backbones/presets/**/*", "serving/page/*", "py.typed"]},
    python_requires=">=3.11,<3.14",  # keras-hub 0.32 needs 3.11
    install_requires=[
        # KerasHub's layers reach into Keras, ours into KerasHub's: a minor version is tried first.
        "keras>=3.15,<3.16",
        "keras-hub>=0.32,<0.33",
        "keras-nlp>=0.32,<0.33",
        "tensorflow>=2.20,<2.22",
        "tensorflow-text>=2.20.1,!=2.21.0,<2.22",  # 2.21.0 cannot be imported
        "tensorflow-datasets>=4.9.10",  # older ones do not read with protobuf 7
        "importlib_resources",
        "fsspec[http]>=2024.6,<2027",
        "huggingface_hub>=0.26,<3",
        "safetensors>=0.4.3,<1",
        "numpy>=1.26",
        "pyarrow>=15",
        "pyyaml>=6",
        "rich>=13",
        "rouge-score>=0.1.2",
        "scikit-learn>=1.4",
        "scipy>=1.11.2",  # older ones are yanked
        "typer>=0.20",  # reads Literal
    ],
    extras_require={
        "plots": PLOTS,
        "ray": RAY,
        "t5x": T5X,
        "gcs": GCS,
        "serve": SERVE,
        "ray-serve": SERVE + RAY_SERVE,
        "ctranslate2": CTRANSLATE2,
        "onnx": ONNX,
        "jax": JAX,
        "tpu": TPU,
        "parity": PARITY,
        "docs": DOCS,
        "dev": PLOTS + RAY + T5X + GCS + CTRANSLATE2 + ONNX + SERVE + DEV,
    },
    entry_points={"console_scripts": ["keras-spot=keras_spot.cli:main"]},
    project_urls={"Paper": "https://aclanthology.org/2022.acl-long.346/"},
    keywords="keras tensorflow t5 soft-prompt prompt-tuning transfer-learning nlp",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",  # Apple silicon; tensorflow-text has no wheels for Windows
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Text Processing :: Linguistic",
        "Typing :: Typed",
    ],
)

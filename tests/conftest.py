"""What every test stands on: CPU only, no noise, a scratch TFDS directory, tokenizers."""

import gc
import io
import os
import pathlib
import sys
import tempfile

import pytest

# A program of its own, run by test_distribution; what type checkers read.
collect_ignore = ["replicas.py", "typing"]

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

_SCRATCH = tempfile.TemporaryDirectory(prefix="keras-spot-tests-")
os.environ["TFDS_DATA_DIR"] = _SCRATCH.name  # never the user's own directory


def pytest_collection_finish(session):
    """Leave what the imports have made out of every search for garbage: half a second each."""
    gc.freeze()


def pytest_unconfigure(config):
    _SCRATCH.cleanup()


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder of real data beside the repository."""
    path = pathlib.Path(__file__).resolve().parents[2] / "shared"
    if not (path / "data" / "tfds").is_dir():
        pytest.skip("needs real data in ../shared/data/tfds, which is absent")
    return path


@pytest.fixture(scope="session")
def data_dir() -> str:
    """The scratch TFDS directory, where synthetic tasks prepare themselves."""
    return _SCRATCH.name


@pytest.fixture(scope="session")
def tokenizer():
    """A KerasHub `T5Tokenizer` of 700 pieces: pad 0, end 1, unknown 2."""
    import sentencepiece
    from keras_hub.tokenizers import T5Tokenizer

    from keras_spot.tasks.synthetic_data import CONFIGS, rows

    def sentences():
        for name, (labels, features, _) in CONFIGS.items():
            for row in rows(name, "train"):
                text = " ".join(f"{feature}: {row[feature]}" for feature in features)
                yield f"{name} {text} {labels[row['label']]}"

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sentences(),
        model_writer=model,
        vocab_size=700,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
        num_threads=1,
    )
    return T5Tokenizer(proto=model.getvalue())


@pytest.fixture(scope="session")
def t5_tokenizer(shared):
    """The `T5Tokenizer` of the real 32,000 pieces."""
    from keras_hub.tokenizers import T5Tokenizer

    return T5Tokenizer(proto=(shared / "data" / "t5_32k.spm").read_bytes())


@pytest.fixture
def keras_spot(monkeypatch, capsys):
    """Run the command in this process; return exit code, stdout and stderr."""
    from keras_spot import cli

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["keras-spot", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out = capsys.readouterr()
        return caught.value.code, out.out, out.err

    return run

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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each process whole files: what the tests of a file share is made once."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


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


@pytest.fixture
def out_of_sight():
    """Hide what other tests left from the collection of garbage.

    Keras collects it for every kernel that it quantises, Python when many objects are made.
    """
    gc.freeze()


@pytest.fixture(scope="session")
def one_layer_tiny(tmp_path_factory) -> pathlib.Path:
    """The embedded backbone's preset with the first of its layers alone: a third of the tracing."""
    import shutil

    from keras_hub.models import T5Backbone

    from keras_spot import backbones

    whole, tokenizer = backbones.load("tiny")
    small = T5Backbone.from_config({**whole.get_config(), "num_layers": 1})
    for mine, theirs in zip(_layers(small), _layers(whole), strict=True):
        mine.set_weights(theirs.get_weights())
    folder = backbones.save(small, tokenizer, tmp_path_factory.mktemp("preset") / "tiny")
    shutil.copy(backbones.EMBEDDED["tiny"] / "recipe.json", folder)
    return folder


def _layers(backbone):
    first = backbone.encoder_transformer_layers[0], backbone.decoder_transformer_layers[0]
    norms = backbone.encoder_layer_norm, backbone.decoder_layer_norm
    return [backbone.token_embedding, *first, *norms]


@pytest.fixture(scope="module", autouse=True)
def _quick_tiny(request):
    """`"tiny"` of one layer, where it matters that something runs and not how well it answers."""
    if request.path.parent.name not in ("cli", "docs"):
        yield
        return
    from keras_spot import backbones

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbones.EMBEDDED, "tiny", request.getfixturevalue("one_layer_tiny"))
        yield

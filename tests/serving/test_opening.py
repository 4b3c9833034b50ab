"""From paths to engines, without any engine."""

import pytest

from keras_spot.base.errors import InvalidArgument, MissingExtra, MissingFile
from keras_spot.serving import opening
from keras_spot.tasks.card import TaskCard


class Stub:
    """An engine that takes no time."""

    takes_prompts = False
    facts = {"max_input_length": 9}

    def __init__(self, name, folder, batch_size):
        self.name, self.folder, self.batch_size, self.calls = name, folder, batch_size, []
        self.takes_prompts = name != "ctranslate2"
        self.cards = {"a": TaskCard("a", "{x}", ("no", "yes"))}

    def generate(self, texts, prompt):
        self.calls.append(len(texts))
        return [""] * len(texts)

    classify = generate


@pytest.fixture
def stubs(monkeypatch):
    """Exports and engines as stubs; `seconds` is what they measure, an error what they raise."""
    seconds = {"tensorflow": 3.0, "ctranslate2": 2.0, "onnxruntime": 4.0}

    def exported(prompts, scratch, backbone, batch_size, name):
        if isinstance(seconds[name], Exception):
            raise seconds[name]
        return Stub(name, scratch, batch_size)

    def opened(folder, name, batch_size):
        return Stub(name or "x", folder, batch_size)

    monkeypatch.setattr(opening, "read_header", lambda prompt: None)
    monkeypatch.setattr(opening, "_exported", exported)
    monkeypatch.setattr(opening, "open_engine", opened)
    monkeypatch.setattr(opening, "measured", lambda engine: seconds[engine.name])
    return seconds


def test_auto_takes_the_fastest_and_says_why(stubs, tmp_path):
    (engine,), reason = opening.open_all(["run"], "auto", tmp_path)
    assert engine.name == "ctranslate2"
    assert reason.startswith("ctranslate2, the fastest here (32 texts: ctranslate2 2000 ms, ")
    assert engine.calls == [1, 1, 2, 2, 32, 32]  # warm
    stubs["ctranslate2"] = MissingExtra("ctranslate2 is not installed")
    stubs["onnxruntime"] = InvalidArgument("`prompt_attention` must be 'full'")
    (engine,), reason = opening.open_all(["run"], "auto", tmp_path)
    assert engine.name == "tensorflow"
    assert "ctranslate2 is not installed" in reason
    assert "must be 'full'" in reason
    stubs["tensorflow"] = InvalidArgument("no")
    with pytest.raises(InvalidArgument, match="must be one that can run these prompts"):
        opening.open_all(["run"], "auto", tmp_path)


def test_engines_compute_as_many_texts_at_once_as_they_get(stubs, tmp_path):
    (tmp_path / "task.json").write_text("{}")
    engines, _ = opening.open_all(["run", tmp_path], "auto", tmp_path, batch_size=7)
    assert [engine.batch_size for engine in engines] == [7, 7]
    assert engines[0].calls[-1] == 7


def test_prompts_that_will_come_need_an_engine_that_takes_them(stubs, tmp_path):
    (engine,), reason = opening.open_all(["run"], "auto", tmp_path, takes_prompts=True)
    assert engine.name == "tensorflow"  # though ctranslate2 is faster
    assert "ctranslate2 takes no prompts that were not exported" in reason
    with pytest.raises(InvalidArgument, match="must be one that takes prompts"):
        opening.open_all(["run"], "ctranslate2", tmp_path, takes_prompts=True)
    # They lie beside the first model, be it exported or not.
    (tmp_path / "task.json").write_text("{}")
    engines, reason = opening.open_all([tmp_path, "run"], "auto", tmp_path, takes_prompts=True)
    assert [engine.name for engine in engines] == ["x", "ctranslate2"]
    assert reason.index("x runs") < reason.index("ctranslate2, the fastest")


def test_the_newest_version_of_a_folder(tmp_path):
    assert opening.exported_folder(tmp_path) is None
    for version in ("2", "10", "old"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "task.json").write_text("{}")
    assert opening.exported_folder(tmp_path) == tmp_path / "10"
    (tmp_path / "task.json").write_text("{}")
    assert opening.exported_folder(tmp_path) == tmp_path


def test_a_prompt_that_is_not_there(tmp_path):
    with pytest.raises(MissingFile, match="must exist"):
        opening.open_all([tmp_path / "nowhere"], "auto", tmp_path)


@pytest.mark.parametrize(
    ("paths", "engine", "rule"),
    [([], "auto", "`models` must name"), (["x"], "cuda", "`engine` must be a known name")],
)
def test_what_cannot_be_opened(paths, engine, rule):
    with pytest.raises(InvalidArgument, match=rule):
        opening.open_all(paths, engine)

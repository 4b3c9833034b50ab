"""Whatever a command writes: nothing of anybody else's is lost, our own is replaced and said so."""

import io
import json
import os

import numpy as np
import pytest
import toy

from keras_spot import backbones, prompts, tasks
from keras_spot.base import ownership, remote
from keras_spot.base.atomic import atomic_folder
from keras_spot.base.errors import InvalidArgument
from keras_spot.cli import answering, predicting
from keras_spot.model import build, export
from keras_spot.prompts import hub
from keras_spot.study import report
from keras_spot.training import evaluate, evaluation, predict
from keras_spot.training.run_folder import RunFolder
from keras_spot.transfer.library import PromptLibrary

VALUES = np.arange(6, dtype="float32").reshape(2, 3)
THESIS = "years of work"


class Model:
    """A stand-in for a model with a prompt: quick to have, and it answers."""

    prompt_names = None

    def __init__(self):
        self.answers = 0

    def export(self, path, format="savedmodel", max_length=None, overwrite=False, tasks=None):
        kind = export.SAVED_MODEL
        with atomic_folder(path, kind, overwrite) as folder:
            (folder / "variables").mkdir()
            (folder / "variables" / "variables.index").write_text("weights")
            (folder / "saved_model.pb").write_text("graph")

    def save_to_preset(self, folder):
        with open(os.path.join(folder, "config.json"), "w") as file:
            file.write("{}")

    def _flatten_layers(self, include_self=True):
        return []


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Inputs of every command in a folder, and stand-ins for what is slow."""
    here = tmp_path / "inputs"
    prompts.write(here / "p.npz", VALUES, {"task": "glue/sst2"})
    prompts.write(here / "of_no_task.npz", VALUES)
    PromptLibrary(here / "library").add("glue/sst2", VALUES)
    model = Model()

    def records(*args, **options):
        model.answers += 1
        record = {"split": "test", "input": "a", "prediction": f"answer {model.answers}"}
        return [{**record, "index": i} for i in range(2)]

    def submit(model, task, folder, split, overwrite, **options):
        examples = [tasks.Example("a", "b", i, idx=i) for i in range(2)]
        labels = [["negative", "positive"][(model.answers + i) % 2] for i in range(2)]
        model.answers += 1
        return evaluate.submission.write(task, labels, examples, folder, split, overwrite=overwrite)

    monkeypatch.setattr(answering, "load_model", lambda *args, **options: model)
    monkeypatch.setattr(predicting, "load_model", lambda *args, **options: model)
    monkeypatch.setattr(predict, "predict", records)
    monkeypatch.setattr(predict, "predict_texts", records)
    scored = evaluation.Evaluation("glue/sst2", {"score": 50.0}, records())
    monkeypatch.setattr(evaluate, "evaluate", lambda *args, **options: scored)
    monkeypatch.setattr(evaluate, "submit", submit)
    monkeypatch.setattr(hub, "pull_prompt", lambda repository: prompts.read(here / "p.npz"))
    monkeypatch.setattr(backbones, "is_backbone", lambda source: "backbone" in str(source))
    monkeypatch.setattr(backbones, "load", lambda *args, **options: (model, None))
    return here


# name -> (command with IN for the inputs and OUT for the output, where OUT is what is written)
FOLDERS = {
    "export": "export --prompt IN/p.npz OUT",
    "convert a backbone": "convert IN/backbone OUT",
    "convert a prompt to PEFT": "convert IN/p.npz OUT --to peft",
    "library export to PEFT": "library export glue/sst2 OUT --library IN/library --form peft",
}
MARKED_FILES = {
    "convert": "convert IN/p.npz OUT.npz",
    "pull": "pull owner/name OUT.npz",
    "library export": "library export glue/sst2 OUT.npz --library IN/library",
}
OTHER_FILES = {
    "convert to npy": "convert IN/p.npz OUT.npy",
    "convert to the reference's": f"convert IN/p.npz OUT/{prompts.REFERENCE_NAME} --to reference",
    "pull to npy": "pull owner/name OUT.npy",
    "library export to npy": "library export glue/sst2 OUT.npy --library IN/library",
    "evaluate": "evaluate --task glue/sst2 --prompt IN/p.npz --predictions OUT.jsonl",
    "predict texts": "predict --prompt IN/of_no_task.npz text --output OUT.jsonl",
    "predict a split": "predict --prompt IN/p.npz --task glue/sst2 --output OUT.jsonl",
    "submit": "submit --task glue/sst2 --prompt IN/p.npz OUT/SST-2.tsv",
}


def words(command, stage, out):
    text = command.replace("IN", str(stage))
    path = out.parent / next(w for w in text.split() if w.startswith("OUT")).replace(
        "OUT", out.name
    )
    text = text.replace("OUT", str(out)).replace("/SST-2.tsv", "")
    return text.split(), path


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=["", "overwrite"])
@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_with_another_file_survives(keras_spot, stage, tmp_path, name, overwrite):
    command, path = words(FOLDERS[name], stage, tmp_path / "docs")
    path.mkdir()
    (path / "thesis.txt").write_text(THESIS)
    code, out, err = keras_spot(*command, *overwrite)
    assert (code, out) == (2, "")
    assert err.startswith("error: `path` must be new, empty or hold nothing but a ")
    assert err.endswith(f"Received: {path} (holds thesis.txt)\n")
    assert err.count("\n") == 1
    assert ownership.listing(path) == ["thesis.txt"]
    assert (path / "thesis.txt").read_text() == THESIS


# Folders that are added to, one file after the other.
SHARED_FOLDERS = {
    "train": "train --task synthetic/movies --steps 1 --run-dir OUT",
    "train-bank": "train-bank --task synthetic/movies --task synthetic/products --steps 1 "
    "--run-dir OUT",
    "train by transfer": "train --task synthetic/movies --transfer average --library IN/library "
    "--steps 1 --run-dir OUT",
    "library add": "library add IN/p.npz --name glue/sst2 --library OUT",
    "study": "study run IN/study.yaml --output OUT",
    "demo": "demo --output OUT",
}


@pytest.mark.parametrize("restart", [[], ["--restart"]], ids=["", "restart"])
@pytest.mark.parametrize("name", SHARED_FOLDERS)
def test_nothing_is_put_beside_the_files_of_another(
    keras_spot, stage, tmp_path, monkeypatch, name, restart
):
    monkeypatch.setattr(backbones, "load", lambda *args, **options: pytest.fail("was loaded"))
    command, path = words(SHARED_FOLDERS[name], stage, tmp_path / "docs")
    (stage / "study.yaml").write_text(
        "backbone: a-backbone\nsources: [synthetic/movies]\ntargets: [synthetic/products]\n"
    )
    path.mkdir()
    (path / "thesis.txt").write_text(THESIS)
    code, out, err = keras_spot(*command, *(restart if command[0].startswith("train") else ()))
    assert (code, out) == (2, "")
    assert "must be new, empty or hold a " in err
    assert err.endswith(f"Received: {path} (holds thesis.txt)\n")
    assert err.count("\n") == 1
    assert os.listdir(path) == ["thesis.txt"]


def test_folders_without_files_are_what_a_kill_left(tmp_path):
    def check():
        ownership.check_shared(tmp_path, "run", "run_dir", lambda place: False)

    for place in ("embedding", "sources/1-sst2"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / ".lock.0").write_text("{}")
    check()
    (tmp_path / "sources" / "notes.txt").write_text(THESIS)
    with pytest.raises(InvalidArgument, match=r"must be new, .* \(holds sources/\)"):
        check()


@pytest.mark.parametrize("name", FOLDERS)
def test_our_own_folder_is_replaced_and_said_so(keras_spot, stage, tmp_path, name):
    command, path = words(FOLDERS[name], stage, tmp_path / "docs")
    code, out, err = keras_spot(*command)
    assert (code, err) == (0, "")
    assert "replaced" not in out
    before = ownership.listing(path)
    code, out, err = keras_spot(*command)
    assert (code, err) == (0, "")
    assert out.endswith(f"{path} (replaced)\n")
    (path / "notes.txt").write_text(THESIS)
    code, out, err = keras_spot(*command, "--overwrite")
    assert (code, out) == (2, "")
    assert "(holds notes.txt)" in err
    (path / "notes.txt").unlink()
    changed = path / next(name for name in before if name != ownership.MARKER)
    changed.write_text(THESIS)
    code, _, err = keras_spot(*command)
    assert (code, f"(changed: {changed.relative_to(path)})" in err) == (2, True)
    assert changed.read_text() == THESIS
    assert keras_spot(*command, "--overwrite")[0] == 0
    assert ownership.listing(path) == before
    assert os.listdir(tmp_path) in (["docs", "inputs"], ["inputs", "docs"])


@pytest.mark.parametrize("name", MARKED_FILES | OTHER_FILES)
def test_a_file_of_another_survives(keras_spot, stage, tmp_path, name):
    command, path = words((MARKED_FILES | OTHER_FILES)[name], stage, tmp_path / "docs")
    path.parent.mkdir(exist_ok=True)
    array = io.BytesIO()
    np.save(array, VALUES + 1)
    for content in (THESIS.encode(), array.getvalue()):
        path.write_bytes(content)
        before = path.read_bytes()
        code, out, err = keras_spot(*command)
        assert (code, out) == (2, "")
        assert err.startswith("error: `path` must be new, or `overwrite` be set to replace what")
        assert f"Received: {path} ({len(before)} bytes, " in err
        assert err.count("\n") == 1
        assert path.read_bytes() == before
    code, out, err = keras_spot(*command, "--overwrite")
    assert code == 0
    assert f"{path} (replaced)\n" in out or err == f"replaced: {path}\n"
    assert path.read_bytes() != before


@pytest.mark.parametrize("name", MARKED_FILES)
def test_a_file_with_our_mark_is_replaced_and_said_so(keras_spot, stage, tmp_path, name):
    command, path = words(MARKED_FILES[name], stage, tmp_path / "docs")
    word = "prompt" if name == "convert" else "saved"
    assert keras_spot(*command) == (0, f"{word}: {path}\n", "")
    assert keras_spot(*command) == (0, f"{word}: {path} (replaced)\n", "")


@pytest.mark.parametrize("name", OTHER_FILES)
def test_a_file_without_a_mark_is_replaced_when_told_to(keras_spot, stage, tmp_path, name):
    command, path = words(OTHER_FILES[name], stage, tmp_path / "docs")
    assert keras_spot(*command)[0] == 0
    before = path.read_bytes()
    code, _, err = keras_spot(*command)
    assert (code, str(path) in err) == (2, True)
    assert path.read_bytes() == before
    code, out, err = keras_spot(*command, "--overwrite")
    assert (code, "replaced" in out + err) == (0, True)


def test_nothing_is_loaded_for_an_output_that_is_refused(keras_spot, stage, tmp_path, monkeypatch):
    for module in (answering, predicting):
        monkeypatch.setattr(module, "load_model", lambda *args: pytest.fail("was loaded"))
    monkeypatch.setattr(backbones, "load", lambda *args, **options: pytest.fail("was loaded"))
    for command in [*FOLDERS.values(), *OTHER_FILES.values()]:
        if command.startswith(("pull", "library")) or ".npz OUT" in command:
            continue
        line, path = words(command, stage, tmp_path / "docs")
        path.parent.mkdir(exist_ok=True)
        if command in FOLDERS.values():
            path.mkdir(exist_ok=True)
            path = path / "thesis.txt"
        path.write_text(THESIS)
        assert keras_spot(*line)[0] == 2


def test_the_folder_of_the_input_is_no_output(keras_spot, stage, monkeypatch):
    """Also where it is the current one, one above it or the home of the user."""
    before = ownership.listing(stage)
    monkeypatch.setenv("HOME", str(stage))
    monkeypatch.chdir(stage / "library")
    for place in (stage, "..", ".", "/", os.path.expanduser("~")):
        for command in FOLDERS.values():
            line = [str(place) if word == "OUT" else word for word in command.split()]
            code, _, err = keras_spot(*(word.replace("IN", str(stage)) for word in line))
            assert code == 2
            assert "(holds " in err
    assert ownership.listing(stage) == before


def test_a_backbone_is_not_converted_onto_itself(keras_spot, stage):
    (stage / "backbone").mkdir()
    (stage / "backbone" / "config.json").write_text("theirs")
    code, _, err = keras_spot("convert", stage / "backbone", stage / "backbone")
    assert (code, "(holds config.json)" in err) == (2, True)
    assert (stage / "backbone" / "config.json").read_text() == "theirs"


def test_a_link_is_followed(keras_spot, stage, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "thesis.txt").write_text(THESIS)
    (tmp_path / "link").symlink_to("docs")
    code, _, err = keras_spot("export", "--prompt", stage / "p.npz", tmp_path / "link")
    assert (code, "(holds thesis.txt)" in err) == (2, True)
    (tmp_path / "docs" / "thesis.txt").unlink()
    assert keras_spot("export", "--prompt", stage / "p.npz", tmp_path / "link")[0] == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "docs" / "saved_model.pb").is_file()


def test_the_reference_layout_is_not_put_into_a_run(keras_spot, stage, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    code, _, err = keras_spot("convert", stage / "p.npz", tmp_path / "run", "--to", "reference")
    assert code == 2
    assert err == (
        "error: `path` must not be the folder of a run, to which run.json belongs. "
        f"Received: {tmp_path}/run\n"
    )


def test_export_end_to_end(keras_spot, tmp_path, tokenizer):
    """The command of the bug report, with nothing faked."""
    preset = tmp_path / "preset"
    toy.shallow(tokenizer.vocabulary_size()).save_to_preset(preset)
    tokenizer.save_to_preset(preset)
    prompts.write(tmp_path / "p.npy", np.ones((3, toy.CONFIG["hidden_dim"])))
    command = ["export", "--prompt", tmp_path / "p.npy", "--backbone", preset]
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "thesis.txt").write_text(THESIS)
    code, out, err = keras_spot(*command, docs)
    assert (code, out) == (2, "")
    assert "(holds thesis.txt)" in err
    assert ownership.listing(docs) == ["thesis.txt"]
    Model().export(tmp_path / "served")
    code, out, _ = keras_spot(*command, tmp_path / "served", "--max-length", 2)
    assert (code, out) == (0, f"saved: {tmp_path}/served (replaced)\n")
    assert (tmp_path / "served" / "saved_model.pb").stat().st_size > 100
    remote.may_write(tmp_path / "served", export.SAVED_MODEL)


# === In Python ===


def test_other_formats_of_keras_do_not_replace_files(tmp_path):
    def write(path):
        for name in (path, path + ".data"):
            with open(name, "w") as file:
                file.write("model")

    (tmp_path / "m.onnx.data").write_text(THESIS)
    with pytest.raises(ValueError, match=r"m\.onnx\.data"):
        export.export_files(write, tmp_path / "m.onnx")
    assert os.listdir(tmp_path) == ["m.onnx.data"]
    export.export_files(write, tmp_path / "m.onnx", overwrite=True)
    assert (tmp_path / "m.onnx").read_text() == "model"
    with pytest.raises(ValueError, match=r"not recognised as exported model"):
        export.export_files(lambda path: pytest.fail("was exported"), tmp_path / "m.onnx")


def test_export_passes_its_arguments_on(tmp_path, monkeypatch):
    import keras_hub

    model = build.build(toy.shallow(), prompt_length=2)

    def write(self, path, format, verbose):
        assert (format, verbose) == ("openvino", False)
        with open(path, "w") as file:
            file.write("model")

    monkeypatch.setattr(keras_hub.models.Seq2SeqLM, "export", write)
    (tmp_path / "m.xml").write_text(THESIS)
    with pytest.raises(ValueError, match="must be new"):
        model.export(tmp_path / "m.xml", format="openvino", verbose=False)
    model.export(tmp_path / "m.xml", format="openvino", verbose=False, overwrite=True)
    assert (tmp_path / "m.xml").read_text() == "model"


def test_a_preset_of_a_model_does_not_replace_files(tmp_path, monkeypatch):
    import keras_hub

    model = build.build(toy.shallow(), prompt_length=2)

    def write(self, folder, max_shard_size):
        with open(os.path.join(folder, "config.json"), "w") as file:
            file.write("{}")

    monkeypatch.setattr(keras_hub.models.Task, "save_to_preset", write)
    (tmp_path / "config.json").write_text(THESIS)
    with pytest.raises(ValueError, match=r"a model preset .* \(holds config\.json\)"):
        model.save_to_preset(tmp_path)
    assert (tmp_path / "config.json").read_text() == THESIS
    for _ in range(2):
        model.save_to_preset(tmp_path / "preset")
    assert ownership.listing(tmp_path / "preset") == ["config.json", ownership.MARKER]


def test_prompts_of_one_shape_are_replaced(tmp_path):
    for name in ("p.npy", "p.npz", prompts.REFERENCE_NAME):
        for values in (VALUES, VALUES + 1):
            prompts.write(tmp_path / name, values)
        np.testing.assert_array_equal(prompts.read(tmp_path / name).values, VALUES + 1)
    for other in (VALUES[:1], VALUES.astype("float64"), VALUES.astype("int32")):
        np.save(tmp_path / "mine.npy", other)
        with pytest.raises(ValueError, match="must be new"):
            prompts.write(tmp_path / "mine.npy", VALUES)
        np.testing.assert_array_equal(np.load(tmp_path / "mine.npy"), other)
    np.savez(tmp_path / "mine.npz", prompt=VALUES, provenance=np.array("{}"), more=VALUES)
    with pytest.raises(ValueError, match="must be new"):
        prompts.write(tmp_path / "mine.npz", VALUES)


def test_predictions_replace_predictions(tmp_path):
    path = tmp_path / "p.jsonl"
    for answer in ("good", "bad"):
        evaluation.write_predictions([{"input": "a", "prediction": answer}], path)
        assert json.loads(path.read_text())["prediction"] == answer
    path.write_text('{"input": "a", "prediction": "b", "remark": "mine"}\n')
    with pytest.raises(ValueError, match="not recognised as file of predictions"):
        evaluation.Evaluation("glue/sst2", {}, []).write(path)
    assert "remark" in path.read_text()


# === Folders that are added to ===

RUN = {"recipe": {}, "backbone": "abc", "versions": {"keras_spot": "0.1.0"}, "task": "glue/sst2"}


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("run.json", '{"my": "notes"}', "must have a run.json that keras_spot wrote, or none"),
        ("run.json", "{}", "must have a run.json that keras_spot wrote, or none"),
        ("run.json", "my notes", "run.json"),
        ("metrics.jsonl", '{"mine": 1}\n', "metrics.jsonl alone in "),
        ("state.npz", "mine", "state.npz alone in "),
        (
            f"numpy_checkpoints/checkpoint_5/{prompts.REFERENCE_NAME}",
            "x",
            "checkpoints alone",
        ),
    ],
)
def test_a_run_does_not_begin_over_files_of_its_names(tmp_path, name, text, rule):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
    (tmp_path / "thesis.txt").write_text(THESIS)
    before = ownership.listing(tmp_path)
    with pytest.raises(ValueError) as error:
        RunFolder(tmp_path).open(RUN)
    assert rule in str(error.value)
    assert (tmp_path / name).read_text() == text
    assert ownership.listing(tmp_path) == before


def test_a_run_begins_beside_other_files(tmp_path):
    (tmp_path / "thesis.txt").write_text(THESIS)
    assert RunFolder(tmp_path).open(RUN) == 0
    assert RunFolder(tmp_path).open(RUN) == 0
    assert (tmp_path / "thesis.txt").read_text() == THESIS


def a_run(folder, state, steps):
    RunFolder(folder).open(RUN)
    for step in steps:
        prompts.write(prompts.step_path(folder, step), VALUES)
        RunFolder(folder).append_metrics({"step": step, "loss": 1.0})
    if state:
        np.savez(folder / "state.npz", prompt=VALUES, step=np.int64(state))


def test_checkpoints_whose_state_is_older_are_not_trained_over(tmp_path):
    a_run(tmp_path, 5, (5, 10, 15, 20))
    before = {name: (tmp_path / name).read_bytes() for name in ownership.listing(tmp_path)}
    with pytest.raises(ValueError) as error:
        RunFolder(tmp_path).open(RUN)
    assert str(error.value) == (
        "`run_dir` must hold the state.npz of its newest checkpoints to continue. "
        f"Received: one of step 5 for checkpoints to 20 in {tmp_path}"
    )
    assert {n: (tmp_path / n).read_bytes() for n in ownership.listing(tmp_path)} == before


def test_notes_beside_a_checkpoint_stay(tmp_path):
    """What a kill has left after the newest state goes, but nothing else."""
    a_run(tmp_path, 5, (5, 10))
    notes = prompts.step_path(tmp_path, 10).with_name("notes.txt")
    notes.write_text(THESIS)
    assert RunFolder(tmp_path).open(RUN) == 5
    assert prompts.steps(tmp_path) == [5]
    assert [line["step"] for line in RunFolder(tmp_path).metrics()] == [5]
    assert notes.read_text() == THESIS


def test_metrics_with_lines_of_another_stay(tmp_path):
    a_run(tmp_path, 5, (5,))
    file = tmp_path / "metrics.jsonl"
    file.write_text("a remark\n" + file.read_text() + '{"mine": 1}\n{"step": 10}\n')
    RunFolder(tmp_path).open(RUN)
    assert file.read_text() == 'a remark\n{"step": 5, "loss": 1.0}\n{"mine": 1}\n'


def test_a_state_of_another_is_not_read(tmp_path):
    a_run(tmp_path, 0, ())
    np.savez(tmp_path / "state.npz", mine=VALUES)
    with pytest.raises(ValueError, match=r"must hold a whole state\.npz to continue"):
        RunFolder(tmp_path).open(RUN)


def test_a_run_is_set_aside_without_the_files_of_another(tmp_path):
    folder = tmp_path / "docs"
    assert RunFolder(folder).set_aside() is None
    folder.mkdir()
    (folder / "thesis.txt").write_text(THESIS)
    assert RunFolder(folder).set_aside() is None
    a_run(folder, 5, (5,))
    a_run(folder / "seed0", 5, (5,))
    aside = RunFolder(folder).set_aside()
    assert os.listdir(folder) == ["thesis.txt"]
    assert sorted(os.listdir(aside)) == [
        "metrics.jsonl",
        "numpy_checkpoints",
        "run.json",
        "seed0",
        "state.npz",
    ]
    a_run(tmp_path / "run", 5, (5,))
    inode = (tmp_path / "run").stat().st_ino
    assert RunFolder(tmp_path / "run").set_aside().stat().st_ino == inode


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        (
            "transfer.json",
            '{"from": "Rome"}',
            "must have a transfer.json that keras_spot",
        ),
        ("transfer.json", "bank details", "must hold the record of a transfer. Received: "),
        (
            "run.json",
            json.dumps(RUN),
            "must be new or hold a transfer, not a run alone",
        ),
    ],
)
def test_a_transfer_does_not_begin_over_a_run(keras_spot, stage, tmp_path, name, text, rule):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text(text)
    line = f"train --task glue/rte --transfer top-k --k 1 --library {stage}/library"
    code, _, err = keras_spot(*line.split(), "--run-dir", tmp_path / "run")
    assert code == 2
    assert err.startswith(f"error: `run_dir` {rule}")
    assert f"{tmp_path}/run" in err
    assert ownership.listing(tmp_path / "run") == [name]
    assert (tmp_path / "run" / name).read_text() == text


def test_an_entry_with_other_files_is_not_removed(keras_spot, tmp_path):
    library = PromptLibrary(tmp_path / "library")
    library.add("glue/rte", VALUES)
    notes = tmp_path / "library" / "glue%2Frte" / "notes.txt"
    notes.write_text(THESIS)
    code, _, err = keras_spot("library", "remove", "glue/rte", "--library", tmp_path / "library")
    assert code == 2
    assert err == (
        "error: `name` must be of an entry that holds no files but its own. "
        "Received: 'glue/rte' (holds notes.txt)\n"
    )
    assert notes.read_text() == THESIS
    assert list(library) == ["glue/rte"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_library_does_not_take_the_place_of_another_file(tmp_path, is_folder):
    place = tmp_path / "library" / "rte"
    PromptLibrary(place.parent).add("sst2", VALUES)
    thesis = place / "thesis.txt" if is_folder else place
    thesis.parent.mkdir(exist_ok=True)
    thesis.write_text(THESIS)
    with pytest.raises(ValueError, match="must have nothing else of an entry's name"):
        PromptLibrary(tmp_path / "library").add("rte", VALUES)
    assert thesis.read_text() == THESIS


def test_an_address_is_no_folder_of_a_demo(keras_spot):
    code, _, err = keras_spot("demo", "--output", "gs://bucket/demo")
    assert code == 2
    assert err == "error: `folder` must be on this machine. Received: gs://bucket/demo\n"


@pytest.mark.parametrize("name", ["learning_curves.png", "saved_model/thesis.txt"])
def test_a_demo_does_not_replace_files_of_another(keras_spot, tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(THESIS)
    code, _, err = keras_spot("demo", "--output", tmp_path)
    assert (code, name.rpartition("/")[2] in err) == (2, True)
    assert ownership.listing(tmp_path) == [name]
    assert report.check_report(tmp_path) is False

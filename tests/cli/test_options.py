"""Options of runs are made from the record, and mean the same in every command."""

import dataclasses
import inspect

import pytest

from keras_spot import Recipe, Run
from keras_spot.cli import answering, inspecting, options, predicting, studying, training
from keras_spot.model import build

RUNNING = (training.train_command, training.train_bank_command)
OTHERS = (
    answering.evaluate_command,
    predicting.predict_command,
    answering.submit_command,
    answering.export_command,
    inspecting.inspect_command,
)


def parameters(command):
    return inspect.signature(command).parameters


def option(command, name):
    return parameters(command)[name].annotation.__metadata__[0]


@pytest.mark.parametrize("record", [Run, Recipe])
def test_a_field_of_the_record_is_an_option_of_every_command_that_runs(record):
    fields = [f.name for f in dataclasses.fields(record) if f.metadata["option"] is not None]
    assert fields
    for command in RUNNING:
        assert set(fields) <= set(parameters(command))


def test_a_flag_means_the_same_in_every_command():
    for name in ("backbone", "data_dir", "dtype", "method"):
        texts = {option(command, name).help for command in RUNNING}
        texts |= {option(c, name).help for c in OTHERS if name in parameters(c) and c != OTHERS[-1]}
        text = Run.__dataclass_fields__[name].metadata["help"]
        told = {one.removesuffix(" Default: the prompt's, else tiny.") for one in texts}
        if name == "dtype":  # a run's is kept where its prompt answers
            told.remove(text.replace("float32.", "the run's."))
        assert told == {text}
    for command in (*OTHERS[:3], studying.run_command):  # the layout of the model
        layout = parameters(command)["layout"]
        field = Run.__dataclass_fields__["devices"]
        assert layout.default == field.default
        assert option(command, "layout").help == field.metadata["help"]
    assert parameters(training.train_command)["backbone"].default == "tiny"
    assert parameters(answering.evaluate_command)["backbone"].default is None  # the run's own


def test_a_run_of_options():
    given = {"task": ["glue/rte"], "seed": [3], "backbone": "tiny", "batch_size": 8, "steps": 5}
    run = options.run_of(given)
    assert (run.seed, run.steps, run.full_recipe.batch_size) == (3, 5, 8)
    assert not run.is_bank
    assert options.run_of(given, bank=True).is_bank
    assert not run.remat
    assert options.run_of({**given, "remat": True}).remat
    seeds = options.run_of({**given, "seed": [1, 2]}, bank=True)
    assert [member.name for member in seeds.members] == ["seed1", "seed2"]
    with pytest.raises(ValueError) as error:
        options.run_of({**given, "seed": [1, 2]})
    assert str(error.value) == (
        "`seed` must be given once; `train-bank` trains several prompts. Received: seed=[1, 2]"
    )


def test_a_prompt_answers_on_the_backbone_of_its_run(monkeypatch, tmp_path, capsys):
    def build_it(backbone, prompt, **given):
        print("quantize: int8")
        return backbone, given

    known = {"backbone_name": "tiny", "dtype": "bfloat16", "quantize": "int8", "input_length": 9}
    monkeypatch.setattr(options, "recorded", lambda prompt: known)
    monkeypatch.setattr(build, "build", build_it)
    backbone, given = options.load_model(None, str(tmp_path), None)
    assert backbone == "tiny"
    assert given == {"dtype": "bfloat16", "quantize": "int8", "input_length": 9}
    assert options.load_model(None, str(tmp_path), "float32")[1]["dtype"] == "float32"
    # What is exported is served elsewhere.
    assert options.load_model(None, str(tmp_path), None, dtype_of_run=False)[1]["dtype"] is None
    out, told = capsys.readouterr()
    assert out == ""  # which is for the answers
    assert told.startswith("quantize")

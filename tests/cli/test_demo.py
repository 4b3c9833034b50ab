import pathlib

import pytest

import keras_spot
from keras_spot.cli import demo


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return demo.run_demo(
        tmp_path_factory.mktemp("demo"),
        source_steps=10,
        target_steps=10,
        seeds=(0,),
        validation=20,
    )


def test_the_demo_leaves_what_it_promises(result, capsys):
    assert (result.folder / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    assert (result.folder / "saved_model" / "saved_model.pb").is_file()
    assert set(result.scores) == {"transferred (SPoT)", "sampled vocabulary"}
    assert all(len(scores) == 1 for scores in result.scores.values())
    assert isinstance(result.answer, str)
    demo.show(result)
    shown = capsys.readouterr().out
    assert "transferred (SPoT)" in shown
    assert "learning_curves.png" in shown


def test_it_begins_with_the_initial_prompts_as_they_are(result):
    """Step 0 of a transfer is the source's prompt, of the rest the prompt that training samples."""
    assert {step for runs in result.curves.values() for run in runs for step, _ in run} == {0, 10}
    starts = {"transferred (SPoT)": str(result.folder / "runs" / "source"), "sampled vocabulary": 0}
    for name, start in starts.items():
        options = {"prompt_init": start} if start else {"prompt_init": "sampled_vocab", "seed": 0}
        model = keras_spot.build("tiny", **options)
        score = keras_spot.evaluate(
            model, demo.TARGET, method="rank", limit=20, data_dir=result.folder / "tfds"
        ).scores["score"]
        assert result.curves[name][0][0] == (0, score)


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_and_marks_what_validation_keeps(monkeypatch, capsys, width):
    monkeypatch.setenv("COLUMNS", str(width))
    curves = {
        "transferred (SPoT)": [[(0, 69.0), (10, 69.5)], [(0, 69.0), (10, 66.5)]],
        "sampled vocabulary": [[(0, 50.0), (10, 59.0)], [(0, 50.0), (10, 62.0)]],
    }
    kept = {name: demo._kept(runs) for name, runs in curves.items()}
    assert kept == {"transferred (SPoT)": 0, "sampled vocabulary": 10}
    folder = pathlib.Path("spot-demo")
    demo.show(
        demo.DemoResult(73.5, {}, curves, kept, text="good", answer="positive", folder=folder)
    )
    shown = capsys.readouterr().out.splitlines()
    rows = [line.split("   ") for line in shown]
    table = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert ["0", "69.0 ± 0.0 *", "50.0 ± 0.0"] in table
    assert ["10", "68.0 ± 2.1", "60.5 ± 2.1 *"] in table
    assert all(len(line) <= width for line in shown)


def test_again_shows_what_is_there(result):
    again = demo.run_demo(
        result.folder, source_steps=10, target_steps=10, seeds=(0,), validation=20
    )
    assert again == result
    assert [path.name for path in again.replaced] == ["learning_curves.png", "saved_model"]

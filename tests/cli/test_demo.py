import pytest

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


def test_again_shows_what_is_there(result):
    again = demo.run_demo(
        result.folder, source_steps=10, target_steps=10, seeds=(0,), validation=20
    )
    assert again == result

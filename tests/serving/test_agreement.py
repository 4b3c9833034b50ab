"""Real texts: exported forms answer token by token as the model does, and 8 bits nearly so."""

import pytest

from keras_spot import load_examples, tasks
from keras_spot.serving.engines import open_engine
from tools import agreement

TASKS = ("glue/mrpc", "glue/sst2")
TEXTS = 25  # of each task; `python -m tools.agreement` reads hundreds


@pytest.fixture(scope="module")
def model():
    files = [agreement.PROMPTS / f"scratch--{name.replace('/', '.')}--all--0.npz" for name in TASKS]
    return agreement.bank(files)


@pytest.mark.parametrize("form", ["ctranslate2", "ctranslate2-int8", "onnx", "onnx-int8"])
def test_forms_agree_with_the_model_on_real_texts(model, shared, tmp_path, form):
    kind, options = agreement.FORMS[form]
    pytest.importorskip({"onnx": "onnxruntime"}.get(kind, kind), reason="the engine of this form")
    model.export(tmp_path / form, kind, tasks=list(TASKS), **options)
    engines = {form: open_engine(tmp_path / form)}
    for name in TASKS:
        task = tasks.get(name)
        read = load_examples(
            task, "validation", data_dir=shared / "data" / "tfds", limit=TEXTS, labelled=True
        )
        (row,) = agreement.compare(model, engines, task, list(read))
        least = row.texts if "int8" not in form else 0.85 * row.texts
        assert row.answers >= least, row
        assert row.labels >= least, row

"""SuperGLUE (Wang et al. 2019): the text forms of the T5 paper and its codebase."""

from keras_spot.tasks.task import Task

__all__ = ["TASKS"]

_TEST_ONLY = {"test": "test"}

TASKS = (
    Task(
        name="super_glue/boolq",
        tfds="super_glue/boolq:1.0.2",
        input="boolq passage: {passage} question: {question}",
        labels=("False", "True"),
        metrics=("accuracy",),
    ),
    Task(
        name="super_glue/cb",
        tfds="super_glue/cb:1.0.2",
        input="cb hypothesis: {hypothesis} premise: {premise}",
        labels=("entailment", "contradiction", "neutral"),
        metrics=("macro_f1", "accuracy"),
    ),
    Task(
        name="super_glue/copa",
        tfds="super_glue/copa:1.0.2",
        input=(
            "copa choice1: {choice1} choice2: {choice2} premise: {premise} question: {question}"
        ),
        labels=("choice1", "choice2"),
        metrics=("accuracy",),
    ),
    Task(
        name="super_glue/multirc",
        tfds="super_glue/multirc:1.0.2",
        input="multirc question: {question} answer: {answer} paragraph: {paragraph}",
        labels=("False", "True"),
        metrics=("f1", "group_exact_match"),
        preprocess="multirc",
    ),
    Task(
        name="super_glue/record",
        tfds="super_glue/record:1.0.2",
        input="record query: {query} entities: {entities} passage: {passage}",
        target="{answer}",
        metrics=("squad_f1", "squad_em"),
        preprocess="record",
        max_target_length=32,
    ),
    Task(
        name="super_glue/rte",
        tfds="super_glue/rte:1.0.2",
        input="rte hypothesis: {hypothesis} premise: {premise}",
        labels=("entailment", "not_entailment"),
        metrics=("accuracy",),
    ),
    Task(
        name="super_glue/wic",
        tfds="super_glue/wic:1.0.2",
        input="wic sentence1: {sentence1} sentence2: {sentence2} word: {word}",
        labels=("False", "True"),
        metrics=("accuracy",),
    ),
    # The referent form is made from wsc.fixed, whose spans are substrings of the text, as in T5.
    Task(
        name="super_glue/wsc",
        tfds="super_glue/wsc.fixed:1.0.2",
        input="wsc: {text}",
        target="{span1_text}",
        labels=("False", "True"),
        metrics=("referent_accuracy",),
        preprocess="wsc",
        train_label=1,
        max_target_length=32,
    ),
    Task(
        name="super_glue/wsc.fixed",
        tfds="super_glue/wsc.fixed:1.0.2",
        input="wsc text: {text}",
        labels=("False", "True"),
        metrics=("accuracy",),
        preprocess="wsc_marked",
    ),
    Task(
        name="super_glue/axb",
        tfds="super_glue/axb:1.0.2",
        input="rte hypothesis: {sentence2} premise: {sentence1}",
        labels=("entailment", "not_entailment"),
        metrics=("matthews",),
        splits=_TEST_ONLY,
        validation=(),
    ),
    Task(
        name="super_glue/axg",
        tfds="super_glue/axg:1.0.2",
        input="rte hypothesis: {hypothesis} premise: {premise}",
        labels=("entailment", "not_entailment"),
        metrics=("accuracy",),
        splits=_TEST_ONLY,
        validation=(),
    ),
)

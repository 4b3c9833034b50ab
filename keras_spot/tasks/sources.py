"""SPoT's other source tasks (Vu et al. 2022), in the forms of its codebase.

TFDS versions are those of TFDS 4.9; the published SPoT code names cnn_dailymail 3.2.0 and
multi_news 1.0.0.
"""

from keras_spot.tasks.task import Task

__all__ = ["LANGUAGE_MODELS", "MRQA", "NLI", "SUMMARISATION"]

_ROUGE = ("rouge1", "rouge2", "rougeLsum")
_SQUAD = ("squad_f1", "squad_em")
_NO_TEST = {"train": "train", "validation": "validation"}

NLI = (
    Task(
        name="anli/r1",
        tfds="anli/r1:0.1.0",
        input="anli_r1 hypothesis: {hypothesis} context: {context}",
        labels=("entailment", "neutral", "contradiction"),
        metrics=("accuracy",),
        preprocess="spaced",
    ),
    Task(
        name="anli/r2",
        tfds="anli/r2:0.1.0",
        input="anli_r2 hypothesis: {hypothesis} context: {context}",
        labels=("entailment", "neutral", "contradiction"),
        metrics=("accuracy",),
        preprocess="spaced",
    ),
    Task(
        name="anli/r3",
        tfds="anli/r3:0.1.0",
        input="anli_r3 hypothesis: {hypothesis} context: {context}",
        labels=("entailment", "neutral", "contradiction"),
        metrics=("accuracy",),
        preprocess="spaced",
    ),
    Task(
        name="doc_nli",
        tfds="doc_nli:1.0.0",
        input="doc_nli hypothesis: {hypothesis} premise: {premise}",
        labels=("not_entailment", "entailment"),
        metrics=("accuracy",),
        preprocess="spaced",
    ),
    Task(
        name="snli",
        tfds="snli:1.1.0",
        input="snli hypothesis: {hypothesis} premise: {premise}",
        labels=("entailment", "neutral", "contradiction"),
        metrics=("accuracy",),
        preprocess="spaced",
    ),
)

MRQA = (
    Task(
        name="mrqa/squad",
        tfds="mrqa/squad:1.0.0",
        input="squad question: {question} context: {context}",
        target="{answer}",
        metrics=_SQUAD,
        splits=_NO_TEST,
        preprocess="mrqa",
        max_target_length=32,
    ),
    Task(
        name="mrqa/news_qa",
        tfds="mrqa/news_qa:1.0.0",
        input="news_qa question: {question} context: {context}",
        target="{answer}",
        metrics=_SQUAD,
        splits=_NO_TEST,
        preprocess="mrqa",
        max_target_length=32,
    ),
    Task(
        name="mrqa/trivia_qa",
        tfds="mrqa/trivia_qa:1.0.0",
        input="trivia_qa question: {question} context: {context}",
        target="{answer}",
        metrics=_SQUAD,
        splits=_NO_TEST,
        preprocess="mrqa",
        max_target_length=32,
    ),
    Task(
        name="mrqa/search_qa",
        tfds="mrqa/search_qa:1.0.0",
        input="search_qa question: {question} context: {context}",
        target="{answer}",
        metrics=_SQUAD,
        splits=_NO_TEST,
        preprocess="mrqa",
        max_target_length=32,
    ),
    Task(
        name="mrqa/hotpot_qa",
        tfds="mrqa/hotpot_qa:1.0.0",
        input="hotpot_qa question: {question} context: {context}",
        target="{answer}",
        metrics=_SQUAD,
        splits=_NO_TEST,
        preprocess="mrqa",
        max_target_length=32,
    ),
    Task(
        name="mrqa/natural_questions",
        tfds="mrqa/natural_questions:1.0.0",
        input="natural_questions question: {question} context: {context}",
        target="{answer}",
        metrics=_SQUAD,
        splits=_NO_TEST,
        preprocess="mrqa",
        max_target_length=32,
    ),
)

SUMMARISATION = (
    Task(
        name="aeslc",
        tfds="aeslc:1.0.0",
        input="aeslc summarize: {email_body}",
        target="{subject_line}",
        metrics=_ROUGE,
        max_target_length=32,
    ),
    Task(
        name="billsum",
        tfds="billsum:3.0.0",
        input="billsum summarize: {text}",
        target="{summary}",
        metrics=_ROUGE,
        splits={"train": "train", "validation": "test", "test": "test"},
        max_target_length=512,
    ),
    Task(
        name="gigaword",
        tfds="gigaword:1.2.0",
        input="gigaword summarize: {document}",
        target="{summary}",
        metrics=_ROUGE,
        max_target_length=64,
    ),
    Task(
        name="cnn_dailymail",
        tfds="cnn_dailymail:3.4.0",
        input="cnn_dailymail summarize: {article}",
        target="{highlights}",
        metrics=_ROUGE,
        max_target_length=128,
    ),
    Task(
        name="multi_news",
        tfds="multi_news:2.1.0",
        input="multi_news summarize: {document}",
        target="{summary}",
        metrics=_ROUGE,
        max_target_length=512,
    ),
    Task(
        name="samsum",
        tfds="samsum:1.0.0",
        input="samsum summarize: {dialogue}",
        target="{summary}",
        metrics=_ROUGE,
        max_target_length=128,
    ),
    Task(
        name="newsroom",
        tfds="newsroom:1.0.0",
        input="newsroom summarize: {text}",
        target="{summary}",
        metrics=_ROUGE,
        max_target_length=128,
    ),
)

LANGUAGE_MODELS = (
    Task(
        name="c4",
        tfds="c4/en:3.1.0",
        input="{prefix}",
        target="{suffix}",
        preprocess="prefix_lm",
        splits=_NO_TEST,
        max_target_length=512,
    ),
)

"""The pseudo-tasks by name, their answers and the prefixes they are read with.

A pseudo-task asks on which side of a plane in the teacher's space a text lies, or how two texts
stand to each other. Its answers are words that say nothing of the question, so that no held-out
label set gets a meaning.
"""

KINDS = (
    "none",
    "side",
    "shuffled",
    "swapped",
    "replaced",
    "long",
    "similar",
    "difference",
    "contained",
    "altered",
    "side of first",
    "side of second",
    "same pair",
    "glue/mnli",
    "glue/qnli",
    "glue/wnli",
    "subj",
    "trec",
)
# Texts of one manner and the number of their own principal axes that are named tasks. Reviews have
# most, since opinions are what they differ in.
GROUPS = (
    (("glue/sst2", "mr", "imdb_reviews/plain_text"), 8),
    (("quora_pairs", "trec"), 2),
    (("snli", "glue/stsb"), 2),
    (("glue/mnli", "ling_nli"), 2),
    (("mpqa", "subj", "super_glue/boolq"), 2),
)
KINDS += tuple(f"axis {a} of {group[0]}" for group, axes in GROUPS for a in range(axes))
# Questions about two texts, answered from what the teacher makes of them (`relations.py`).
RELATION_KINDS = ("similar", "entailed", "contradicted", "neutral", "inference")
RELATION_KINDS += tuple(f"relation {axis}" for axis in range(6))
KINDS += RELATION_KINDS[1:]
KIND = {name: i for i, name in enumerate(KINDS)}
# fmt: off
NAMES = (
    "", "", "sst2", "mr", "cola", "rte", "cb", "mrpc", "boolq", "text", "review", "task", "mpqa",
    "imdb_reviews", "quora_pairs", "snli", "ling_nli", "stsb", "wic", "copa", "qqp",
)
# fmt: on
FIELDS = ("sentence:", "sentence:", "text:", "phrase:", "question:", "passage:", "premise:", "")
# A kind's usual answers, always in this order: such a task is learned like any labelled one, and
# opens the way for answers drawn anew for a row. The words say nothing of the task.
# fmt: off
USUAL_ANSWERS = (
    "left right", "up down", "one two", "red blue", "high low", "north south", "even odd",
    "before after", "day night", "king queen", "cat dog", "summer winter", "hot cold", "hand foot",
    "black white", "open closed", "sun moon", "bread water", "east west", "morning evening",
    "brother sister", "gold silver", "long short", "big small", "river mountain", "car train",
    "school office", "green yellow", "apple orange", "iron wood", "boy girl", "fire ice",
    "door window", "book music", "father mother", "horse bird", "street garden", "north east west",
    "paper glass", "silver stone", "lion tiger", "spoon knife", "shirt shoes", "tree flower",
)
# fmt: on
PAIR_KINDS = ("same pair", "same pair", "contained", "altered")
PAIR_KINDS += ("difference", "side of first", "side of second")
PAIR_FIELDS = (
    ("sentence1:", "sentence2:"),
    ("hypothesis:", "premise:"),
    ("question1:", "question2:"),
    ("question:", "passage:"),
    ("question:", "sentence:"),
)
# Labels of common tasks are among the words drawn anew, so that any of them can be an answer.
# fmt: off
LABELS = (
    "positive", "negative", "true", "false", "yes", "no", "True", "False", "entailment", "neutral",
    "contradiction", "not_entailment", "acceptable", "unacceptable", "equivalent", "not_equivalent",
    "duplicate", "not_duplicate", "choice1", "choice2", "objective", "subjective", "pos", "neg",
    "good", "bad",
)
# fmt: on

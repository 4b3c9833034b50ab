"""Cards of tasks: fields to text, and what travels with a prompt."""

import pytest

from keras_spot import tasks
from keras_spot.base.errors import InvalidArgument
from keras_spot.tasks.card import TaskCard, card_of, read_cards, write_cards
from keras_spot.tasks.catalog import names
from keras_spot.training.contents import task_record


def test_every_task_of_the_catalogue_has_a_card_that_survives_its_file(tmp_path):
    cards = {name: TaskCard.of(tasks.get(name)) for name in names()}
    write_cards(tmp_path / "task.json", cards, prompt_length=100)
    assert read_cards(tmp_path / "task.json") == (cards, {"prompt_length": 100})
    for name in names():
        assert TaskCard.from_record(task_record(tasks.get(name))) == cards[name]


@pytest.mark.parametrize("name", ["mrqa/squad", "super_glue/multirc", "glue/mnli"])
def test_fields_read_as_the_task_reads_them(name):
    task = tasks.get(name)
    card = TaskCard.of(task)
    fields = {field: f"one,  two <br>{field}." for field in card.fields}
    row = {**fields, "answers": ["x"], "idx": {"paragraph": 0, "question": 0}}
    assert card.text(fields) == task.examples(row, 0)[0].input


def test_labels_are_answers_only_where_the_target_is_the_label():
    task = tasks.Task("t", input="{x}", target="it is {label}", labels=("a", "b"))
    assert TaskCard.of(task).labels == ()
    assert TaskCard.from_record(task_record(task)).labels == ()


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"review": "a", "more": "b"},
        {"review": None},
        {"review": ["a"]},
        {"review": True},
        {"review": "half \ud800"},
        "half \ud800",
        None,
        3.5j,
    ],
)
def test_other_fields_are_refused(given):
    with pytest.raises(InvalidArgument):
        TaskCard("reviews", "review: {review}").text(given)


def test_a_field_called_text_is_the_task_s_own():
    assert TaskCard("t", "review: {text}").text({"text": "a gem"}) == "review: a gem"
    assert TaskCard("t", "review: {x}").text({"text": "review: a gem"}) == "review: a gem"


def test_a_prompt_s_card_is_what_was_recorded():
    assert card_of({}, "mine") == TaskCard("mine")
    assert card_of({"task": "glue/sst2"}, "mine").fields == ["sentence"]
    record = task_record(tasks.Task("own", input="say {x}", labels=("no", "yes")))
    card = card_of({"task": "own", "task_record": record}, "mine")
    assert (card.name, card.input, card.labels) == ("own", "say {x}", ("no", "yes"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"prompts": {}}',
        '{"prompts": {"a": 1}}',
        '{"prompts": {"a": {}}}',
        '{"prompts": {"a": {"input": "{x.__class__}"}}}',
        '{"prompts": {"a": {"input": "{"}}}',
    ],
)
def test_a_damaged_file_is_named(tmp_path, text):
    file = tmp_path / "task.json"
    file.write_text(text)
    with pytest.raises(InvalidArgument, match=r"task\.json"):
        read_cards(file)

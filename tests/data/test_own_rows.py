"""A task's own rows: files of every type, in memory, slices; one meaning for all readers."""

import dataclasses
import gzip
import json
import os
import shutil
import types
from typing import ClassVar

import pytest

from keras_spot import data, tasks
from keras_spot.data import slices, sources

LABELS = ("1", "2", "3")
ROWS = [{"text": "a, gem", "label": 1}, {"text": 'so "so"', "label": 3}]
TEXTS = {
    "csv": 'text,label\n"a, gem",1\n"so ""so""",3\n',
    "tsv": 'text\tlabel\na, gem\t1\nso "so"\t3\n',
    "jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    "json": json.dumps(ROWS),
}
KINDS = [
    *TEXTS, "CSV", "csv.gz", "tsv.gz", "jsonl.gz", "json.GZ", "parquet",
    "list", "columns", "table", "frame", "function",
]  # fmt: skip


class Frame:
    """What of a pandas DataFrame is read: its columns, each with `tolist`."""

    iloc = None

    def __init__(self, columns):
        import numpy as np

        self.data, self.columns = columns, list(columns)
        self.column = lambda name: np.asarray(self.data[name])

    def __getitem__(self, name):
        return self.column(name)


def task_of(source, **fields):
    given = {"files": source} if all(isinstance(v, str) for v in source.values()) else {}
    given = given or {"rows": source}
    return tasks.Task(
        **{"name": "mine", "input": "film: {text}", "labels": LABELS, **given, **fields}
    )


def write(folder, kind, text, encoding="utf-8"):
    path = folder / f"rows.{kind}"
    content = text if isinstance(text, bytes) else text.encode(encoding)
    path.write_bytes(gzip.compress(content) if kind.lower().endswith(".gz") else content)
    return str(path)


def own(tmp_path, kind, **fields):
    """Return the task of the same two rows, read in some way."""
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    if kind == "parquet":
        import pyarrow
        from pyarrow import parquet

        path = str(tmp_path / "rows.parquet")
        parquet.write_table(pyarrow.table(columns), path)
        return task_of({"train": path}, **fields)
    if kind == "table":
        import pyarrow

        return task_of({"train": pyarrow.table(columns)}, **fields)
    memory = {
        "list": ROWS,
        "columns": columns,
        "frame": Frame(columns),
        "function": lambda: iter(ROWS),
    }
    if kind in memory:
        return task_of({"train": memory[kind]}, **fields)
    text = TEXTS[kind.lower().removesuffix(".gz")]
    return task_of({"train": write(tmp_path, kind, text)}, **fields)


def read(task, split="train", **options):
    return [(e.input, e.target) for e in data.load_examples(task, split, **options)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_rows_whatever_reads_them(kind, tmp_path, t5_tokenizer):
    task = own(tmp_path, kind)
    assert read(task) == [("film: a, gem", "1"), ('film: so "so"', "3")]
    assert read(dataclasses.replace(task, label_indices=True, labels=("x", *LABELS))) == [
        ("film: a, gem", "1"),
        ('film: so "so"', "3"),
    ]
    assert sources.count_rows(task, "train") == 2
    assert read(task, "train[1:]") == [('film: so "so"', "3")]
    assert read(task, "train[50%:]+train[:-1]") == [('film: so "so"', "3"), ("film: a, gem", "1")]
    assert sources.count_rows(task, "train[:50%]") == 1
    assert len(list(data.load_task(task, "train", t5_tokenizer, 1))) == 2


# === Dialects ===


def test_a_quote_in_tsv_is_a_character(tmp_path):
    rows = [('"open quote', "1"), ("fine", "2"), ('ok "', "1"), ('""', "3")]
    path = write(tmp_path, "tsv", "text\tlabel\n" + "".join(f"{a}\t{b}\n" for a, b in rows))
    assert read(task_of({"train": path})) == [(f"film: {a}", b) for a, b in rows]


def test_long_cells_and_the_limit_of_others(tmp_path):
    import csv

    before = csv.field_size_limit()
    for kind, line in (("csv", '"{}",1'), ("tsv", "{}\t1")):
        long = "x" * 300_000
        head = "text,label" if kind == "csv" else "text\tlabel"
        path = write(tmp_path, kind, f"{head}\n{line.format(long)}\n")
        assert read(task_of({"train": path})) == [(f"film: {long}", "1")]
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x1d", "\x85"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_end_at_newlines_only(kind, mark, end, tmp_path):
    text = f"one{mark}two"
    lines = {
        "csv": ["text,label", f"{text},1", f"{text},2"],
        "tsv": ["text\tlabel", f"{text}\t1", f"{text}\t2"],
        "jsonl": [f'{{"text": "{text}", "label": {i}}}' for i in (1, 2)],
    }[kind]
    if kind == "jsonl" and mark < " ":
        lines = [line.replace(mark, f"\\u{ord(mark):04x}") for line in lines]
    path = write(tmp_path, kind, end.join(lines))  # the last line without an end
    assert read(task_of({"train": path})) == [(f"film: {text}", "1"), (f"film: {text}", "2")]


def test_a_quoted_cell_may_have_lines(tmp_path):
    path = write(tmp_path, "csv", 'text,label\r\n"one\r\ntwo\n",1\r\nx,2\r\n')
    assert read(task_of({"train": path})) == [("film: one\r\ntwo\n", "1"), ("film: x", "2")]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-32"]
)
def test_encodings(kind, encoding, tmp_path):
    text = TEXTS[kind].replace("gem", "gëm")
    if kind.startswith("json"):
        text = json.dumps(json.loads(f"[{','.join(text.splitlines())}]")[0], ensure_ascii=False)
        text = f"[{text}]" if kind == "json" and not text.startswith("[") else text
        text = text.replace("\\u00eb", "ë")
    task = task_of({"train": write(tmp_path, kind, text, encoding)}, encoding=encoding)
    assert read(task)[0] == ("film: a, gëm", "1")
    if encoding == "utf-8-sig":  # the mark is no part of the text, asked for or not
        assert read(dataclasses.replace(task, encoding="utf-8"))[0] == ("film: a, gëm", "1")


@pytest.mark.parametrize("number", [0, 5, 2000])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_a_wrong_byte_is_in_its_row(number, kind, tmp_path):
    line = {"csv": "{},1", "tsv": "{}\t1", "jsonl": '{{"text": "{}", "label": 1}}'}[kind]
    lines = [line.format("caf\xe9" if i == number else "good") for i in range(2500)]
    head = {"csv": ["text,label"], "tsv": ["text\tlabel"], "jsonl": []}[kind]
    path = write(tmp_path, kind, "\n".join([*head, *lines]), "latin-1")
    with pytest.raises(ValueError, match="must be readable") as caught:
        read(task_of({"train": path}))
    at = f"row {number} of mine in {path} (line {number + 1 + len(head)}): not text in utf-8: byte"
    assert at in str(caught.value)
    assert "(the task's `encoding` says another)" in str(caught.value)
    assert len(read(task_of({"train": path}, encoding="latin-1"))) == 2500


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_files_below_a_name_that_is_not_utf8(tmp_path, kind):
    folder = tmp_path / os.fsdecode(b"na\xefve")
    folder.mkdir()
    path = shutil.copy(own(tmp_path, kind).files["train"], folder)
    task = task_of({"train": path})
    assert read(task) == [("film: a, gem", "1"), ('film: so "so"', "3")]


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("csv", "text,text\na,b\n", "its column 'text' stands twice"),
        ("tsv", "text\tlabel\ttext\na\t1\tb\n", "its column 'text' stands twice"),
        (
            "csv",
            "text,label\ra,1\r",
            "its first line: a carriage return outside quotes; lines must",
        ),
        ("csv", "", "it is empty, without a line of column names"),
        ("tsv", "\n\n", "it is empty, without a line of column names"),
        ("csv", b"\xef\xbb\xbf", "it is empty, without a line of column names"),
        ("csv", b"t\xe9xt,label\na,1\n", "its first line: not text in utf-8: byte 0xe9"),
        ("csv", "text,label\na,1\n".encode("utf-16"), "(the task's `encoding: utf-16` says"),
        ("csv.gz", b"", "it is empty, without a line of column names"),
        ("json", "", "no JSON: "),
        ("json", "[" * 10**5, "no JSON: "),
        ("json", '{"text": "a"}', "no list of records"),
        ("json", '[{"text": "a", "text": "b"}]', "no JSON: 'text' stands twice"),
        ("jsonl", '{"text": "a", "text": "b"}', "(line 1): 'text' stands twice"),
        ("jsonl", '\n{"text": "a", "label": 1}\n[1]', "row 1 of mine in PATH (line 3): no record"),
        ("jsonl", "[" * 10**5, "(line 1): nested too deep"),
        ("csv", "text,label\na,1\nb,1,2\n", "row 1 of mine in PATH (line 3): 3 values for 2 col"),
        ("tsv", "text\tlabel\na\t1\nb\n", "row 1 of mine in PATH (line 3): 1 value for 2 col"),
        ("csv", 'text,label\na,1\n"b,1\n', "row 1 of mine in PATH (line 3): unexpected end"),
        ("csv", 'text,label\n"a"b,1\n', "row 0 of mine in PATH (line 2): ',' expected after"),
        ("parquet", b"PAR1", "Received: PATH: "),
    ],
)
def test_files_that_cannot_be_read(kind, text, reason, tmp_path):
    path = write(tmp_path, kind, text)
    with pytest.raises(ValueError) as caught:
        read(task_of({"train": path}))
    assert reason.replace("PATH", path) in str(caught.value)
    assert len(str(caught.value)) < 500


def test_half_a_gzip_file(tmp_path):
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(("text,label\n" + "good,1\n" * 10**5).encode())[:300])
    for content in (path.read_bytes(), b"no gzip at all"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"rows\.csv\.gz"):
            read(task_of({"train": str(path)}))


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_no_rows(kind, tmp_path, t5_tokenizer):
    text = {"csv": "text,label\n", "tsv": "text\tlabel\n", "jsonl": "\n"}[kind]
    task = task_of({"train": write(tmp_path, kind, text)})
    assert read(task) == []
    with pytest.raises(ValueError, match=r"^`split` must have rows\. Received: split='train'"):
        data.load_task(task, "train", t5_tokenizer)


@pytest.mark.parametrize("fields", [{}, {"missing": "skip"}, {"labels": (), "target": "{label}"}])
def test_a_column_of_another_name_is_named(fields, tmp_path, t5_tokenizer):
    task = task_of({"train": write(tmp_path, "csv", "text, label\nfine,good\n")}, **fields)
    with pytest.raises(ValueError, match=r"rows have \[' label', 'text'\] and not 'label'$"):
        data.load_task(task, "train", t5_tokenizer)


class DataSet(list):
    """What of a Hugging Face data set is read: its rows, and the names of its label's numbers."""

    features: ClassVar = {"text": None, "label": types.SimpleNamespace(names=["good", "bad"])}


@pytest.mark.parametrize("fields", [{}, {"label_indices": True}])
def test_numbers_of_a_data_set_with_names_mean_these_names(fields):
    """Whatever order the task has them in: the data set's order is of the data set's numbers."""
    rows = DataSet({"text": "a", "label": label} for label in (0, 1, -1))
    task = task_of({"train": rows}, labels=("bad", "good"), **fields)
    assert [target for _, target in read(task)] == ["good", "bad", tasks.UNLABELLED]
    others = task_of({"train": rows}, labels=("no", "yes"), label_indices=True)
    assert [target for _, target in read(others)] == ["no", "yes", tasks.UNLABELLED]


def test_columns_without_a_name_are_no_features(tmp_path):
    path = write(tmp_path, "csv", ",text,label,\n0,a,1,\n")
    assert read(task_of({"train": path})) == [("film: a", "1")]


# === Missing values ===

BLANKS = {
    "csv": "text,label\na,1\n,1\n  ,2\nb,\n",
    "tsv": "text\tlabel\na\t1\n\t1\n  \t2\nb\t\n",
    "jsonl": '{"text": "a", "label": 1}\n{"text": null, "label": 1}\n{"text": NaN, "label": 2}\n'
    '{"text": "b", "label": NaN}\n',
    "json": '[{"text": "a", "label": 1}, {"label": 1}, {"text": " ", "label": 2}, {"text": "b"}]',
}


@pytest.mark.parametrize("kind", BLANKS)
def test_missing_values_of_files(kind, tmp_path, t5_tokenizer):
    task = task_of({"train": write(tmp_path, kind, BLANKS[kind])})
    with pytest.raises(ValueError, match=r"^`row` must have .*'text'.* row 1 of mine in .*rows"):
        read(task)
    with pytest.raises(ValueError, match="row 1 of mine"):
        data.load_task(task, "train", t5_tokenizer)
    skips = dataclasses.replace(task, missing="skip")
    assert read(skips) == [("film: a", "1"), ("film: b", "<unk>")]  # to be answered
    assert read(skips, labelled=True) == [("film: a", "1")]
    message = r"mine train: 3 of 4 rows \(75.0%\) lack an input or a label and are left out"
    for options in ({}, {"shuffle": False}, {"repeat": True}):
        with pytest.warns(data.DataWarning, match=message):
            dataset = data.load_task(skips, "train", t5_tokenizer, 1, **options)
        _, _, weight = next(iter(dataset))
        assert float(weight[0, 0]) == 1.0
    assert dataset.cardinality() == -1
    nothing = task_of({"train": [{"text": "", "label": 1}]}, missing="skip")
    with pytest.raises(ValueError, match="must have rows with an input and a label"):
        data.load_task(nothing, "train", t5_tokenizer)


# === Rows in memory ===


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (iter(ROWS), "`rows` must be readable more than once: give a list, or a function that"),
        ({"text": ["a"], "label": []}, "`rows` must have columns of one length."),
        (3, "`rows` must be rows: a list of mappings, columns, a table, or a function"),
        ([["a", 1]], "`row` must be a mapping of features. Received: row 0 of 'train' of mine"),
        (["a"], "`row` must be a mapping of features. Received: row 0 of 'train' of mine: 'a'"),
    ],
)
def test_rows_that_are_none(rows, message):
    with pytest.raises(ValueError) as caught:
        read(task_of({"train": rows}))
    assert str(caught.value).startswith(message)


def test_a_task_without_rows(t5_tokenizer):
    nowhere = tasks.Task("mine", input="{text}")
    message = "`task` must say where its rows are: `tfds`, `files` or `rows`. Received: 'mine' wi"
    for load in (
        lambda: data.load_task(nowhere, "train", t5_tokenizer),
        lambda: next(data.load_examples(nowhere, "train")),
    ):
        with pytest.raises(ValueError) as caught:
            load()
        assert str(caught.value).startswith(message)


def test_rows_of_a_generator_are_read_anew():
    def rows():
        yield from ROWS

    task = task_of({"train": rows})
    assert read(task) == read(task)
    assert task == dataclasses.replace(task, rows={"train": []})  # not part of what it is


# === Slices ===


@pytest.mark.parametrize(
    "split",
    ["t", "t[:3]", "t[3:]", "t[2:5]", "t[:50%]", "t[33%:66%]", "t[-2:]", "t[:-20%]", "t[8:3]",
     "t[:3]+t[5:]", "t[ 1 : 2 ]"],
)  # fmt: skip
def test_slices_as_tfds_has_them(split):
    import re

    import tensorflow_datasets as tfds

    rows = list(range(7))
    task = task_of({"t": [{"text": str(i), "label": 1} for i in rows]})
    info = tfds.core.SplitInfo(name="t", shard_lengths=[7], num_bytes=0, filename_template=None)
    expected = []
    for part in re.sub(r"\s", "", split).split("+"):
        if part == "t[8:3]":
            continue  # which TFDS refuses
        bounds = tfds.core.ReadInstruction.from_spec(part).to_absolute({"t": info})
        expected += [i for b in bounds for i in rows[b.from_ or 0 : 7 if b.to is None else b.to]]
    assert [int(text.removeprefix("film: ")) for text, _ in read(task, split)] == expected
    assert sources.count_rows(task, split) == len(expected)


@pytest.mark.parametrize("split", ["", "t[", "t[:3", "t[a:]", "t[:200%]", "t[::2]", "t[3]", "+"])
def test_bad_slices(split):
    with pytest.raises(ValueError, match=r"^`split` must "):
        slices.parse(split)


def test_a_split_may_be_a_slice(tmp_path):
    splits = {"train": "all[:1]", "validation": "all[1:]"}
    task = task_of({"all": ROWS}, splits=splits)
    assert [e for _, e in read(task)] == ["1"]
    assert [e for _, e in read(task, "validation")] == ["3"]
    with pytest.raises(ValueError, match=r"`split` must not slice 'all\[:1\]' again"):
        read(task, "train[:1]")


def test_splits_are_those_of_the_files():
    task = tasks.Task(name="mine", files={"dev": "x.csv", "train": "y.csv"}, input="{s}")
    assert (task.tfds, task.splits) == (None, {"dev": "dev", "train": "train"})
    with pytest.raises(ValueError, match=r"`split` must be a split of the task: name another in"):
        data.load_examples(task, "validation")

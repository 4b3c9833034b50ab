import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import keras_spot
from keras_spot import PromptLibrary, prompts, transfer
from keras_spot.prompts import Prompt
from keras_spot.transfer import library
from keras_spot.transfer.library import reading

RNG = np.random.default_rng(0)
A, B, C = RNG.normal(size=(3, 4, 6)).astype("float32")


@pytest.fixture
def filled(tmp_path):
    """A library of three sources, one of them of another length and without an embedding."""
    actual = PromptLibrary(tmp_path / "library")
    actual.add("glue/mnli", A, A[::-1] + 1, task="glue/mnli", score=84.5, backbone="f00d")
    actual.add("glue/sst2", Prompt(B, {"task": "glue/sst2", "backbone": "f00d"}), B - 1)
    actual.add("squad", C[:3], task="squad")
    return actual


def test_what_was_added_comes_back(filled):
    assert list(filled) == ["glue/mnli", "glue/sst2", "squad"]
    assert len(filled) == 3
    assert "glue/mnli" in filled
    assert "glue" not in filled
    assert 7 not in filled
    mnli = filled.prompt("glue/mnli")
    np.testing.assert_array_equal(mnli.values, A)
    assert mnli.provenance == {"task": "glue/mnli", "score": 84.5, "backbone": "f00d"}
    np.testing.assert_array_equal(filled.embedding("glue/mnli").values, A[::-1] + 1)
    np.testing.assert_array_equal(filled.embedding("squad").values, C[:3])
    entry = filled.entry("glue/sst2")
    assert (entry.shape, entry.embedding_shape, entry.task) == ((4, 6), (4, 6), "glue/sst2")
    assert [e.backbone for e in filled.entries()] == ["f00d", "f00d", None]
    assert filled.verify() == []
    assert repr(filled) == f"PromptLibrary({str(filled.folder)!r})"


def test_an_empty_or_missing_library_lists_nothing(tmp_path):
    actual = PromptLibrary(tmp_path / "none")
    assert (len(actual), list(actual), actual.entries(), actual.verify()) == (0, [], [], [])
    with pytest.raises(ValueError) as error:
        actual.rank(A)
    assert str(error.value) == (
        f"`library` must hold at least one prompt. Received: {tmp_path / 'none'}"
    )
    assert not (tmp_path / "none").exists()


def test_listing_reads_headers_alone(filled):
    for file in filled.folder.rglob("*.np[yz]"):
        file.unlink()
    assert [(entry.name, entry.shape[0]) for entry in filled.entries()] == [
        ("glue/mnli", 4),
        ("glue/sst2", 4),
        ("squad", 3),
    ]


@pytest.mark.parametrize("name", ["..", ".hidden", "a/../b", "a b", "ä*?[x]", "%2F", "a\\b"])
def test_any_name_is_one_folder_of_the_library(tmp_path, name):
    actual = PromptLibrary(tmp_path / "library")
    actual.add(name, A)
    assert list(actual) == [name]
    assert len(os.listdir(actual.folder)) == 1
    assert os.listdir(tmp_path) == ["library"]
    assert actual.rank(A)[0][0] == name
    actual.remove(name)
    assert (list(actual), os.listdir(actual.folder)) == ([], [])


@pytest.mark.parametrize("by", transfer.SIMILARITIES)
def test_ranking_equals_that_of_the_arrays(tmp_path, by, monkeypatch):
    monkeypatch.setattr(reading, "_BLOCK", 3)
    actual = PromptLibrary(tmp_path)
    embeddings = {f"t{i:02}": RNG.normal(size=(3 + i % 2, 6)) for i in range(10)}
    for name, embedding in embeddings.items():
        actual.add(name, RNG.normal(size=(4, 6)), embedding)
    ranked = actual.rank(B, by=by)
    expected = transfer.rank(B, embeddings, by=by)
    assert [name for name, _ in ranked] == [name for name, _ in expected]
    np.testing.assert_allclose([s for _, s in ranked], [s for _, s in expected], atol=1e-6)
    assert actual.rank(B, by=by, top=3) == ranked[:3]

    def ones_own(query, prompts):  # the same function under no name: by blocks
        return transfer.similarity(by)(query, prompts)

    mine = actual.rank(B, by=ones_own)
    np.testing.assert_allclose([s for _, s in mine], [s for _, s in expected], atol=1e-6)


def test_equal_similarities_are_in_the_order_of_the_names(tmp_path):
    actual = PromptLibrary(tmp_path)
    for name in ("b", "a", "c"):
        actual.add(name, A)
    assert [name for name, _ in actual.rank(A)] == ["a", "b", "c"]


def test_cosines_read_no_embeddings(filled):
    for file in filled.folder.rglob("embedding.npy"):
        file.unlink()
    assert len(filled.rank(A, by="average_token_cosine")) == 3
    with pytest.warns(UserWarning, match=r"^entry '\S+' is left out: `path` must exist") as warned:
        assert [name for name, _ in filled.rank(A, by="max_inner_product")] == ["squad"]
    assert len(warned) == 2


def test_damaged_entries_do_not_stop_the_others(filled):
    """Each is named once, and what is not a number does not rank."""
    (filled.folder / "squad" / "entry.json").write_text('{"name": "squad"}')
    with pytest.warns(UserWarning, match="entry 'squad' is left out: .*squad/entry.json") as warned:
        assert [entry.name for entry in filled.entries()] == ["glue/mnli", "glue/sst2"]
    assert len(warned) == 1
    filled.remove("squad")
    summaries = filled.folder / "glue%2Fmnli" / "summaries.npy"
    np.save(summaries, np.load(summaries) * np.nan)
    with pytest.warns(UserWarning, match=r"'glue/mnli' is left out: .*summaries\.npy.*NaN"):
        assert [name for name, _ in filled.rank(A)] == ["glue/sst2"]
    filled.remove("glue/sst2")
    with (
        pytest.warns(UserWarning, match="'glue/mnli'"),
        pytest.raises(ValueError, match=r"^`library` must hold at least one prompt that is whole"),
    ):
        filled.rank(A)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_in_the_place_of_an_entrys_header_is_damage(filled, make):
    """Not a folder without an entry."""
    (filled.folder / "squad" / "entry.json").unlink()
    make(filled.folder / "squad" / "entry.json")
    with pytest.warns(UserWarning, match="entry 'squad' is left out: .*squad/entry.json"):
        assert [entry.name for entry in filled.entries()] == ["glue/mnli", "glue/sst2"]
    assert any("squad" in line for line in filled.verify())


def test_a_query_is_a_prompt_an_array_or_a_path(filled, tmp_path):
    path = prompts.write(tmp_path / "q.npz", A, {"backbone": "f00d"})
    expected = filled.rank(A)
    assert filled.rank(path) == filled.rank(str(path)) == filled.rank(Prompt(A)) == expected


def test_the_released_prompts(shared, tmp_path):
    folder = shared / "data/prompts/t5_1_1_lm100k_base"
    actual = PromptLibrary(tmp_path)
    for name in ("sst2", "mrpc"):
        actual.add(f"glue/{name}", folder / f"{name}.npy", task=f"glue/{name}")
    ranked = actual.rank(folder / "rte.npy", by="average_token_cosine")
    assert [(name, round(s, 3)) for name, s in ranked] == [
        ("glue/mrpc", 0.565),
        ("glue/sst2", 0.518),
    ]


def fake_run(path, task="glue/rte", steps=(500, 9500, 10500, 20000), best=20000):
    for step in steps:
        prompts.write(prompts.step_path(path, step), A + step)
    record = {
        "task": task,
        "backbone": "f00d",
        "seed": 3,
        "prompt_init": "sampled_vocab",
        "strategy": "Strategy",
        "best": {"step": best, "score": 70.5},
    }
    (path / "run.json").write_text(json.dumps(record))
    return path


def test_a_run_brings_its_best_prompt_and_its_early_checkpoint(tmp_path):
    run = fake_run(tmp_path / "run")
    actual = PromptLibrary(tmp_path / "library")
    entry = actual.add_run(run)
    assert entry.name == "glue/rte"
    np.testing.assert_array_equal(actual.prompt("glue/rte").values, A + 20000)
    assert dict(entry.provenance) == {
        "task": "glue/rte",
        "backbone": "f00d",
        "seed": 3,
        "prompt_init": "sampled_vocab",
        "step": 20000,
        "score": 70.5,
    }
    np.testing.assert_array_equal(actual.embedding("glue/rte").values, A + 9500)
    assert actual.embedding("glue/rte").provenance["step"] == 9500
    assert actual.add_run(run) == entry  # again: nothing new
    assert actual.add_run(run, 700, name="rte, early").embedding_provenance["step"] == 500
    assert len(actual) == 2
    assert actual.verify() == []


def test_export_and_back(filled, tmp_path):
    path = filled.export("glue/mnli", tmp_path / "mnli.npz")
    actual = prompts.read(path)
    np.testing.assert_array_equal(actual.values, A)
    assert actual.provenance["task"] == "glue/mnli"


def test_merging(filled, tmp_path):
    other = PromptLibrary(tmp_path / "other")
    other.add("boolq", A + 3, A, backbone="f00d")
    other.add("squad", C[:3], task="squad")  # the same as there
    assert filled.merge(tmp_path / "other") == ["boolq"]
    assert filled.merge(other) == []
    assert list(filled) == ["boolq", "glue/mnli", "glue/sst2", "squad"]
    np.testing.assert_array_equal(filled.prompt("boolq").values, A + 3)
    assert filled.verify() == []


def test_merging_is_all_or_nothing(filled, tmp_path):
    other = PromptLibrary(tmp_path / "other")
    other.add("boolq", A)
    other.add("squad", A)
    with pytest.raises(ValueError) as error:
        filled.merge(other)
    assert str(error.value) == (
        "`name` must be new to the library or be of the same prompt. "
        f"Received: name='squad' in {filled.folder}"
    )
    assert "boolq" not in filled
    other.remove("squad")
    (other.folder / "boolq" / "prompt.npz").write_bytes(b"damaged")
    with pytest.raises(ValueError) as error:
        filled.merge(other)
    assert str(error.value) == (
        "`other` must hold what was added. Received: boolq: prompt.npz is not what was added"
    )
    assert "boolq" not in filled
    assert filled.verify() == []


def test_removing(filled):
    filled.remove("glue/sst2")
    assert list(filled) == ["glue/mnli", "squad"]
    with pytest.raises(ValueError) as error:
        filled.remove("glue/sst2")
    assert str(error.value).startswith("`name` must be a known name. Received: name='glue/sst2'")


def test_verify_finds_every_damage(filled):
    folder = filled.folder
    (folder / ".writing-x").mkdir()
    (folder / "notes").mkdir()
    (folder / "squad" / "entry.json").write_text("{")
    (folder / "glue%2Fsst2" / "embedding.npy").unlink()
    prompts.write(folder / "glue%2Fsst2" / "prompt.npz", B + 1)
    os.rename(folder / "glue%2Fmnli", folder / "glue%2Fqqp")
    assert filled.verify() == [
        "glue/qqp: `library` must have an entry of the name 'glue/qqp' there. "
        f"Received: name='glue/mnli' in {folder / 'glue%2Fqqp' / 'entry.json'}",
        "glue/sst2: prompt.npz is not what was added",
        "glue/sst2: embedding.npy is missing",
        f"squad: `library` must have a readable entry.json. Received: {folder}/squad/entry.json "
        "(Expecting property name enclosed in double quotes: line 1 column 2 (char 1))",
        ".writing-x: left by an unfinished or killed writer",
        "notes: not an entry",
    ]


def test_verify_compares_widths_backbones_and_shapes(filled, tmp_path):
    """What two first writers at once, or a copy by hand, can bring about."""
    other = PromptLibrary(tmp_path / "other")
    other.add("wide", np.ones((4, 7)))
    other.add("wide too", np.ones((4, 7)), backbone="beef")
    for name in os.listdir(other.folder):
        os.rename(other.folder / name, filled.folder / name)
    header = filled.folder / "squad" / "entry.json"
    header.write_text(header.read_text().replace('"backbone": "f00d"', '"backbone": "beef"'))
    record = json.loads(header.read_text())
    header.write_text(json.dumps({**record, "shape": [2, 6], "provenance": {"backbone": "beef"}}))
    assert filled.verify() == [
        "squad: prompt.npz has another shape than entry.json says",
        "squad: `entry` must come from the backbone of 'glue/mnli' (f00d). "
        "Received: backbone='beef'",
        "wide: `entry` must have the width 6 of 'glue/mnli'. Received: shape=(4, 7)",
        "wide too: `entry` must have the width 6 of 'glue/mnli'. Received: shape=(4, 7)",
    ]
    with pytest.raises(ValueError, match=r"^`query` must have the width 7 of 'wide'"):
        filled.rank(A)


MISTAKES = {
    "`name` must be a text of at least one letter. Received: name=''": lambda x: x.add("", A),
    "`prompt` must have the shape [prompt length, hidden width]. Received: shape=(6,)": (
        lambda x: x.add("new", A[0])
    ),
    "`prompt` must have the width 6 of ANY. Received: shape=(4, 7)": (
        lambda x: x.add("new", np.ones((4, 7)))
    ),
    "`prompt` must come from the backbone of ANY (f00d). Received: backbone='beef'": (
        lambda x: x.add("new", A, backbone="beef")
    ),
    "`embedding` must have the width 6 of 'new'. Received: shape=(4, 7)": (
        lambda x: x.add("new", A, np.ones((4, 7)))
    ),
    "`embedding` must come from the backbone of 'new' (f00d). Received: backbone='beef'": (
        lambda x: x.add("new", A, Prompt(A, {"backbone": "beef"}), backbone="f00d")
    ),
    "`provenance` must be JSON-able. Received: provenance={'score': nan}": (
        lambda x: x.add("new", A, score=float("nan"))
    ),
    "`name` must be new to the library or be of the same prompt. Received: name='squad' in L": (
        lambda x: x.add("squad", A)
    ),
    "`name` must be a known name. Received: name='glue/mnl' (did you mean 'glue/mnli'?)": (
        lambda x: x.prompt("glue/mnl")
    ),
    "`query` must have the width 6 of ANY. Received: shape=(4, 7)": (
        lambda x: x.rank(np.ones((4, 7)))
    ),
    "`query` must come from the backbone of ANY (f00d). Received: backbone='beef'": (
        lambda x: x.rank(Prompt(A, {"backbone": "beef"}))
    ),
    "`by` must be a known name. Received: by='per_token' (did you mean 'per_token_cosine'?)": (
        lambda x: x.rank(A, by="per_token")
    ),
    "`top` must be a positive integer or None. Received: top=0": lambda x: x.rank(A, top=0),
    "`by` must give one finite number for each of the 2 prompts. Received: shape=(1,), [1.]": (
        lambda x: x.rank(A, by=lambda query, prompts: [1.0])
    ),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_changes_nothing(filled, message):
    before = sorted(filled.folder.rglob("*"))
    with pytest.raises(ValueError) as error:
        MISTAKES[message](filled)
    actual = str(error.value).replace(str(filled.folder), "L")
    assert re.sub(r"of '(glue/\w+|squad)'", "of ANY", actual) == message
    assert sorted(filled.folder.rglob("*")) == before


def add_some(folder, numbers, values):
    for i in numbers:
        PromptLibrary(folder).add(f"task {i}", values + i, values - i, number=i)


def test_several_processes_add_at_once(tmp_path):
    """Each adds all entries in its own order; every entry is whole and there once."""
    context = multiprocessing.get_context("spawn")
    orders = [list(range(12)), list(range(11, -1, -1)), [5, 6, 7, 8, 0, 1, 2, 3, 4, 9, 10, 11]]
    writers = [context.Process(target=add_some, args=(tmp_path, order, A)) for order in orders]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    actual = PromptLibrary(tmp_path)
    assert len(actual) == len(os.listdir(tmp_path)) == 12
    assert actual.verify() == []
    for i in range(12):
        np.testing.assert_array_equal(actual.prompt(f"task {i}").values, A + i)


def test_of_two_different_prompts_of_one_name_the_first_stays(filled, monkeypatch):
    """The second writer looked before the first one had finished."""
    check = filled._check_fits

    def late(entry):
        check(entry)
        monkeypatch.undo()
        PromptLibrary(filled.folder).add("new", A)

    monkeypatch.setattr(filled, "_check_fits", late)
    with pytest.raises(ValueError, match="must be new to the library"):
        filled.add("new", B)
    np.testing.assert_array_equal(filled.prompt("new").values, A)
    assert filled.verify() == []


def test_a_full_disk_leaves_nothing(filled, monkeypatch):
    before = sorted(filled.folder.rglob("*"))

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        filled.add("new", A)
    assert sorted(filled.folder.rglob("*")) == before


def test_a_killed_add_leaves_no_entry(tmp_path):
    code = (
        "import os, sys, time, numpy as np, keras_spot\n"
        "os.rename = lambda *names: (print('here', flush=True), time.sleep(60))\n"
        "keras_spot.PromptLibrary(sys.argv[1]).add('new', np.ones((4, 6)))\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE)
    assert writer.stdout.readline() == b"here\n"
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    actual = PromptLibrary(tmp_path)
    assert (len(actual), list(actual), actual.entries()) == (0, [], [])
    (left,) = os.listdir(tmp_path)
    assert actual.verify() == [f"{left}: left by an unfinished or killed writer"]
    actual.add("new", A)
    assert list(actual) == ["new"]


def test_a_library_needs_no_tensorflow(filled):
    code = (
        "import sys, numpy as np, keras_spot, keras_spot.cli\n"
        "found = keras_spot.PromptLibrary(sys.argv[1])\n"
        "found.rank(np.ones((1, 6))), found.verify()\n"
        "sys.argv[1:] = ['library', 'list', '--json', '--library', sys.argv[1]]\n"
        "try: keras_spot.cli.main()\n"
        "except SystemExit: print({'tensorflow', 'keras', 'scipy'} & set(sys.modules))"
    )
    words = [sys.executable, "-c", code, str(filled.folder)]
    actual = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert (len(actual), actual[-1]) == (4, "set()")


def test_thousands_list_fast(tmp_path):
    """Two thousand headers in well under ten seconds, on any machine."""
    actual = PromptLibrary(tmp_path)
    actual.add("0", A, task="t")
    header = json.loads((tmp_path / "0" / "entry.json").read_text())
    for i in range(1, 2000):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "entry.json").write_text(json.dumps({**header, "name": str(i)}))
    began = time.perf_counter()
    assert len(actual.entries()) == len(actual) == 2000
    assert time.perf_counter() - began < 10


def test_the_public_name():
    assert keras_spot.PromptLibrary is library.PromptLibrary


def test_a_library_on_another_machine_is_read_by_need(filled, tmp_path, monkeypatch):
    """fsspec's memory file system stands in for a bucket."""
    monkeypatch.setenv("KERAS_SPOT_CACHE", str(tmp_path / "cache"))
    fsspec = pytest.importorskip("fsspec", reason="needs fsspec to read an address")
    bucket = fsspec.filesystem("memory")
    bucket.put(str(filled.folder), "/library", recursive=True)
    far = PromptLibrary("memory://library")
    try:
        assert far.entries() == filled.entries()
        assert ("glue/mnli" in far, "glue" in far, len(far)) == (True, False, 3)
        np.testing.assert_array_equal(far.prompt("glue/mnli").values, A)
        np.testing.assert_array_equal(far.embedding("glue/sst2").values, B - 1)
        for by in transfer.SIMILARITIES:
            assert far.rank(A, by=by) == filled.rank(A, by=by)
        assert far.verify() == []
        mine = PromptLibrary(tmp_path / "mine")
        assert mine.merge("memory://library") == list(filled)
        assert mine.verify() == []
        for write in (lambda: far.add("new", A), lambda: far.remove("squad")):
            with pytest.raises(ValueError) as error:
                write()
            assert str(error.value) == (
                "`library` must be a local folder to write to. Received: memory://library"
            )
    finally:
        bucket.rm("/library", recursive=True)


@pytest.fixture
def command(monkeypatch, capsys):
    """`keras-spot library ...` in this process: exit code, stdout, stderr."""
    from keras_spot import cli

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["keras-spot", "library", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out = capsys.readouterr()
        return caught.value.code or 0, out.out, out.err

    return run


def test_the_commands(command, tmp_path):
    lib = ["--library", tmp_path / "library"]
    run = fake_run(tmp_path / "run")
    prompts.write(tmp_path / "p.npz", B, {"task": "glue/sst2", "backbone": "f00d"})
    assert command("add", run, tmp_path / "p.npz", *lib) == (
        0,
        "added: glue/rte\nadded: glue/sst2\n",
        "",
    )
    assert command("add", run, *lib)[1] == "already there: glue/rte\n"
    code, out, _ = command("list", *lib, "--json")
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [
        {
            "name": "glue/rte",
            "task": "glue/rte",
            "score": 70.5,
            "step": 20000,
            "prompt": "4 x 6",
            "embedding": 9500,
            "backbone": "f00d",
        },
        {
            "name": "glue/sst2",
            "task": "glue/sst2",
            "score": None,
            "step": None,
            "prompt": "4 x 6",
            "embedding": None,
            "backbone": "f00d",
        },
    ]
    assert "glue/sst2" in command("list", *lib)[1]
    code, out, err = command("rank", "--prompt", tmp_path / "p.npz", "--top", 1, *lib, "--json")
    similarity = dict(PromptLibrary(tmp_path / "library").rank(B))["glue/rte"]
    assert json.loads(out) == {"name": "glue/rte", "similarity": round(similarity, 6)}
    assert err == "left out, the prompt itself: glue/sst2\n"
    assert json.loads(command("rank", "--prompt", run, *lib, "--json")[1])["name"] == "glue/sst2"
    assert command("verify", *lib) == (0, "all is well: 2 prompts\n", "")
    assert command("export", "glue/sst2", tmp_path / "q.npy", *lib)[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "q.npy"), B)
    other = ["--library", tmp_path / "other"]
    assert command("merge", tmp_path / "library", *other)[1] == (
        "added: glue/rte\nadded: glue/sst2\n"
    )
    assert command("remove", "glue/rte", *other) == (0, "removed: glue/rte\n", "")
    (tmp_path / "other" / "glue%2Fsst2" / "summaries.npy").unlink()
    assert command("verify", *other) == (1, "glue/sst2: summaries.npy is missing\n", "")


COMMAND_MISTAKES = {
    "list --library none": "error: `library` must exist. Received: none",
    "verify --library none": "error: `library` must exist. Received: none",
    "add none --library none": "error: `path` must exist. Received: path='none'",
    "add a b --name c --library none": "error: `name` must be given for one prompt at a time. "
    "Received: 2 prompts",
    "add {tmp}/p.npy --library none": "error: `name` must be given where a prompt has no task. "
    "Received: {tmp}/p.npy",
    "rank --prompt {tmp}/p.npy --library {tmp}/l --similarity cos": (
        "error: `by` must be a known name. Received: by='cos' (known: average_token_cosine, "
        "max_inner_product, per_token_cosine)"
    ),
    "export rte {tmp}/x.npy --library {tmp}/l": "error: `name` must be a known name. "
    "Received: name='rte' (known: glue/rte)",
    "export glue/rte {tmp}/x --form T --library {tmp}/l": "error: `form` must be one of npy, npz, "
    "reference, peft. Received: form='T'",
    "merge none --library {tmp}/l": "error: `library` must exist. Received: none",
    "list": "error: Missing option '--library'.",
}


@pytest.mark.parametrize("line", COMMAND_MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(command, line, tmp_path):
    prompts.write(tmp_path / "p.npy", A)
    PromptLibrary(tmp_path / "l").add("glue/rte", B)
    expected = COMMAND_MISTAKES[line].format(tmp=tmp_path)
    assert command(*line.format(tmp=tmp_path).split()) == (2, "", expected + "\n")
    assert sorted(os.listdir(tmp_path)) == ["l", "p.npy"]

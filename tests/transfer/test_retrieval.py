"""Transfer strategies on a random backbone. `train` is deterministic and its `run.json` holds a
hash of the initial prompt, so a run equals the one by hand if it started from the same numbers."""

import hashlib
import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import toy

import keras_spot
from keras_spot import PromptLibrary, Recipe, Run, backbones, prompts, tasks, transfer
from keras_spot.base.errors import InvalidArgument
from keras_spot.base.json_text import to_json
from keras_spot.base.meeting import ADDRESSES, COUNT, NUMBER
from keras_spot.model import build
from keras_spot.training.execute import TrainedRun
from keras_spot.training.run_folder import RunFolder
from keras_spot.transfer import retrieval

RECIPE = Recipe(prompt_length=3, batch_size=4, checkpoint_every=2)
TARGET = "synthetic/products"
# Similarity with the target's embedding falls from the first to the last.
SOURCES = ("synthetic/topic", "synthetic/movies", "synthetic/paraphrase")


def retrieve(strategy, run_dir, library, /, k=1, by="per_token_cosine", **options):
    """Transfer to the target; `options` are those of a retrieval and fields of its run."""
    own = {key: options.pop(key) for key in ("embedding_steps", "progress") if key in options}
    run = Run(task=TARGET, **options)
    return retrieval.retrieve(strategy, run, run_dir, library, k=k, by=by, **own)


@pytest.fixture(scope="module")
def options(tokenizer, data_dir):
    """What all runs have in common."""
    return {
        "backbone": toy.shallow(tokenizer.vocabulary_size()),
        "tokenizer": tokenizer,
        "recipe": RECIPE,
        "steps": 4,
        "data_dir": data_dir,
        "devices": "one_device",
        "method": "rank",
        "validation_limit": 4,
    }


@pytest.fixture(scope="module")
def initial(options):
    """The sampled initial prompts of seeds 0 to 3."""
    return [
        build.build(
            options["backbone"], tokenizer=options["tokenizer"], recipe=RECIPE, seed=seed
        ).prompt
        for seed in range(4)
    ]


@pytest.fixture(scope="module")
def library(options, initial, tmp_path_factory):
    """A library of prompts that no run has trained, and one of the target's own task."""
    actual = PromptLibrary(tmp_path_factory.mktemp("sources") / "library")
    rng = np.random.default_rng(0)
    fingerprint = backbones.fingerprint(options["backbone"])
    embeddings = {SOURCES[0]: (1, 0.05), SOURCES[1]: (1, 0.2), SOURCES[2]: (-1, 0), TARGET: (1, 0)}
    for seed, (task, (sign, noise)) in enumerate(embeddings.items(), 1):
        values = sign * initial[0] + noise * rng.normal(size=(3, 16))
        early = prompts.Prompt(values, {"step": 2, "backbone": fingerprint})
        trained = initial[seed % 4] + rng.normal(size=(3, 16))
        facts = {"task": task, "backbone": fingerprint, "prompt_init": "sampled_vocab"}
        actual.add(f"{task} of others", trained, early, seed=seed % 4, **facts)
    return actual


@pytest.fixture(scope="module")
def averaged(library, options, tmp_path_factory):
    """A finished average of two, whose embedding the other tests start with."""
    run_dir = tmp_path_factory.mktemp("averaged") / "run"
    return retrieve("average", run_dir, library, k=2, **options)


@pytest.fixture
def run_dir(averaged, tmp_path):
    """A folder in which the target's embedding is trained already."""
    shutil.copytree(averaged.run.run_dir / "embedding", tmp_path / "run" / "embedding")
    return tmp_path / "run"


def read(run_dir):
    return json.loads((run_dir / "transfer.json").read_text())


def start_of(run_dir):
    """Return what a run says of its initial prompt."""
    return prompts.read_run(run_dir)["prompt_init"]


def said_of(values):
    return "array " + hashlib.sha256(np.asarray(values, "float32").tobytes()).hexdigest()[:16]


def test_the_embedding_is_a_run_from_scratch_that_ranks_the_library(averaged, library):
    run_dir = averaged.run.run_dir
    scratch = prompts.read_run(run_dir / "embedding")
    assert (scratch["task"], scratch["prompt_init"], scratch["seed"]) == (
        TARGET,
        "sampled_vocab",
        0,
    )
    assert scratch["steps"] == 2  # as the library's embeddings
    assert "best" not in scratch
    query = prompts.read(run_dir / "embedding", 2)
    ranking = [pair for pair in library.rank(query) if not pair[0].startswith(TARGET)]
    assert averaged.ranking == ranking
    assert averaged.sources == [name for name, _ in ranking][:2]
    assert {name for name, _ in ranking} == {f"{task} of others" for task in SOURCES}
    assert ranking[0][1] > ranking[1][1] > 0
    record = read(run_dir)
    assert record == {
        "strategy": "average",
        "task": TARGET,
        "k": 2,
        "by": "per_token_cosine",
        "embedding_steps": 2,
        "library": str(library.folder),
        "ranking": [list(pair) for pair in ranking],
        "sources": averaged.sources,
        "weights": averaged.weights,
        "best": averaged.run.best,
    }


def test_average_trains_from_the_weighted_mean(averaged, library):
    similarities = np.array([similarity for _, similarity in averaged.ranking[:2]])
    np.testing.assert_allclose(averaged.weights, similarities / similarities.sum())
    start = transfer.average(
        [library.prompt(name).values for name in averaged.sources], similarities
    )
    assert start_of(averaged.run.run_dir) == said_of(start)
    final = prompts.read(averaged.run.run_dir)  # a `prompt_init` as any run's folder
    assert final.provenance["task"] == TARGET
    assert final.provenance["step"] == averaged.run.best["step"]
    np.testing.assert_array_equal(
        prompts.read(averaged.run.run_dir, 4).values, averaged.run.model.prompt
    )


def test_top_k_keeps_the_best_of_its_runs(library, options, run_dir):
    parts = []
    done = retrieve(
        "top-k", run_dir, library, k=2, progress=lambda *part: parts.append(part), **options
    )
    assert parts == [("task embedding", 2), *((f"from {name}", 4) for name in done.sources)]
    folders = sorted((run_dir / "sources").iterdir())
    assert [folder.name[:12] for folder in folders] == ["1-synthetic%", "2-synthetic%"]
    for name, folder in zip(done.sources, folders):
        assert start_of(folder) == said_of(library.prompt(name).values)
    scores = [prompts.read_run(folder)["best"]["score"] for folder in folders]
    assert read(run_dir)["scores"] == done.scores == scores
    winner, source = folders[scores.index(max(scores))], done.sources[scores.index(max(scores))]
    assert done.run.run_dir == run_dir
    assert done.run.best == prompts.read_run(winner)["best"]
    for step in (None, 2, 4):
        np.testing.assert_array_equal(
            prompts.read(run_dir, step).values, prompts.read(winner, step).values
        )
    np.testing.assert_array_equal(done.run.model.prompt, prompts.read(winner, 4).values)
    # The folder is the winner's run and goes on as it would.
    for name in ("run.json", "metrics.jsonl", "state.npz"):
        assert (run_dir / name).read_bytes() == (winner / name).read_bytes()
    assert start_of(run_dir) == said_of(library.prompt(source).values)


@pytest.fixture(scope="module")
def mixed(averaged, library, options, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("mixed") / "run"
    shutil.copytree(averaged.run.run_dir / "embedding", run_dir / "embedding")
    return retrieve(retrieval.MixtureOfSources(steps=3), run_dir, library, k=2, **options)


def test_mixture_trains_on_the_sources_tasks_first(mixed, library):
    run_dir = mixed.run.run_dir
    record = prompts.read_run(run_dir / "mixture")
    expected = tasks.Mixture(f"top 2 for {TARGET}", SOURCES[:2])
    assert record["task"] == expected.name
    assert record["mixture"] == {
        "name": expected.name,
        "tasks": list(SOURCES[:2]),
        "limit": 2**19,
        "temperature": 1.0,
        "weights": None,
    }
    assert (record["prompt_init"], record["steps"]) == ("sampled_vocab", 3)
    lines = RunFolder(run_dir / "mixture").metrics()
    assert [line["step"] for line in lines] == [2, 3]
    for line in lines:
        assert line["score"] == pytest.approx(np.mean([line[f"{t}/score"] for t in SOURCES[:2]]))
    assert record["best"]["score"] == max(line["score"] for line in lines)
    assert start_of(run_dir) == said_of(prompts.read(run_dir / "mixture").values)


class Killed(Exception):
    pass


def kill_in(stage):
    """Return a `progress` that stops the program in the last step of a stage but one."""

    def follow(description, steps):
        def report(step, total, logs):
            if description.startswith(stage) and step == total - 1:
                raise Killed

        return report

    return follow


@pytest.mark.slow  # `python -m tests.faults` kills transfers at every moment
def test_a_retrieval_killed_in_each_of_its_runs_continues(mixed, library, options, tmp_path):
    """Bit for bit, and with the sources it chose, although the library has grown meanwhile."""
    mine = PromptLibrary(tmp_path / "library")
    mine.merge(library)
    run_dir = tmp_path / "run"
    arguments = {"k": 2, **options}
    strategy = retrieval.MixtureOfSources(steps=3)
    for stage in ("task embedding", "top 2", "from the mixture"):
        with pytest.raises(Killed):
            retrieve(strategy, run_dir, mine, progress=kill_in(stage), **arguments)
        if stage == "top 2":
            mine.add("the closest", prompts.read(run_dir / "embedding", 2))
    done = retrieve(strategy, run_dir, mine, **arguments)
    np.testing.assert_array_equal(done.run.model.prompt, mixed.run.model.prompt)
    assert done.ranking == mixed.ranking
    assert {**read(run_dir), "library": ""} == {**read(mixed.run.run_dir), "library": ""}
    with pytest.raises(ValueError, match=r"hold a run with the same mixture\.limit"):
        other = tasks.Mixture(f"top 2 for {TARGET}", SOURCES[:2], limit=7)
        keras_spot.train(other, run_dir / "mixture", **options)


def test_learned_weights_come_before_the_prompt(library, options, run_dir):
    done = retrieve("learned", run_dir, library, k=2, **options)
    record = read(run_dir)
    assert done.weights == record["weights"]
    assert sum(done.weights) == pytest.approx(1)
    assert done.weights[0] != 0.5
    values = np.stack([library.prompt(name).values for name in done.sources])
    learned = prompts.read(run_dir / "weights", "newest").values
    np.testing.assert_allclose(learned, np.tensordot(done.weights, values, 1), atol=1e-5)
    assert start_of(run_dir / "weights") == said_of(transfer.average(values))
    assert start_of(run_dir) == said_of(learned)
    assert prompts.read_run(run_dir / "weights")["steps"] == record["embedding_steps"]
    assert prompts.read_run(run_dir).get("reparameterization") is None
    again = retrieve("learned", run_dir, library, k=2, **options)
    assert again.weights == done.weights


def test_learned_weights_with_the_prompt(library, options, run_dir):
    strategy = retrieval.Learned("free", joint=True)
    done = retrieve(strategy, run_dir, library, k=2, **options)
    with pytest.raises(ValueError, match="must be new or hold a transfer with the same settings"):
        retrieve("learned", run_dir, library, k=2, **options)
    assert not (run_dir / "weights").exists()
    (settings,) = prompts.read_run(run_dir)["reparameterization"].values()
    assert (settings["weights"], settings["joint"]) == ("free", True)
    assert settings["sources"].startswith("array ")
    values = np.stack([library.prompt(name).values for name in done.sources])
    final = prompts.read(run_dir, "newest").values
    moved = np.tensordot(np.array(done.weights) - 0.5, values, 1)
    assert (final - moved != transfer.average(values)).mean() > 0.9  # the prompt has moved, too


def test_arithmetic_adds_task_vectors_to_the_initial_prompt(library, options, initial, run_dir):
    done = retrieve("arithmetic", run_dir, library, k=2, **{**options, "steps": 1})
    vectors = []
    for name in done.sources:
        seed = library.entry(name).provenance["seed"]
        vectors.append(transfer.task_vector(library.prompt(name).values, initial[seed]))
    start = transfer.add_task_vectors(initial[0], vectors, done.weights)
    assert start_of(run_dir) == said_of(start)
    by_loop = initial[0].astype("float64")
    for vector, weight in zip(vectors, done.weights):
        by_loop = by_loop + weight * vector
    np.testing.assert_allclose(start, by_loop, atol=1e-6)
    assert sum(done.weights) == pytest.approx(1)


def test_what_a_retrieval_refuses(averaged, library, options, tmp_path, monkeypatch):
    folder, run_dir = averaged.run.run_dir, tmp_path / "run"

    fingerprint = backbones.fingerprint(options["backbone"])
    wide, strange = PromptLibrary(tmp_path / "wide"), PromptLibrary(tmp_path / "strange")
    wide.add("wide", np.ones((3, 17)))
    strange.add("strange", np.ones((3, 16)), backbone="f00d")
    mixed = PromptLibrary(tmp_path / "mixed")
    for seen in ("full", "causal"):
        mixed.add(seen, np.ones((3, 16)), prompt_attention=seen)

    def call(strategy="average", where=run_dir, library=library, **changed):
        return lambda: retrieve(strategy, where, library, **{"k": 3, **options, **changed})

    mistakes = {
        "`k` must be a positive integer. Received: k=0": call(k=0),
        "`embedding_steps` must be a positive integer. Received: embedding_steps=0": call(
            embedding_steps=0
        ),
        "`k` must be at most 3, the library's sources for synthetic/products. Received: k=4": (
            call(k=4)
        ),
        f"`library` must hold a source for {TARGET}. Received: {tmp_path / 'none'}": call(
            library=tmp_path / "none"
        ),
        "`library` must have the backbone's hidden width 16. "
        "Received: shape=(3, 17) of 'wide'": call(library=wide, k=1),
        f"`library` must come from this backbone ({fingerprint}). "
        "Received: backbone='f00d' of 'strange'": call(library=strange, k=1),
        "`library` must hold prompts of one prompt_attention, unless that is given. "
        "Received: causal, full": call(library=mixed, k=1),
        "`steps` must be a positive integer. Received: steps=0": call("top-k", steps=0),
        "`by` must be a known name. Received: by='per_token' (did you mean 'per_token_cosine'?)": (
            call(by="per_token")
        ),
        "`prompt_init` must not be given: it is what the library is searched for. "
        "Received: prompt_init='uniform'": call(prompt_init="uniform"),
        "`validation_split` must not be empty to choose the best by. Received: ''": call(
            "top-k", validation_split=""
        ),
        "`strategy` must be a known name. Received: strategy='top_k' (did you mean 'top-k'?)": (
            call("top_k")
        ),
        "`run_dir` must be new or hold a transfer with the same k (1). "
        f"Received: k=2 in {folder}": call(where=folder, k=1),
        "`run_dir` must be new or hold a transfer with the same strategy ('top-k'). "
        f"Received: strategy='average' in {folder}": call("top-k", where=folder, k=2),
    }
    with pytest.raises(ValueError, match=r"`weights` must be a known name\. Received: weights="):
        retrieval.Learned("sofmax")
    with pytest.raises(ValueError, match=r"`steps` must be a positive integer\. Received: steps=0"):
        retrieval.Learned(steps=0)
    for message, mistake in mistakes.items():
        with pytest.raises(ValueError) as error:
            mistake()
        assert str(error.value) == message
        assert not run_dir.exists()
    for name, value in zip((ADDRESSES, COUNT, NUMBER), ("here:1", "2", "1"), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"^`processes` must be one for a transfer, .*=2$"):
        call()()


def test_sources_that_a_strategy_cannot_use(library, options, run_dir):
    """A negative similarity gives no weight; an unknown start, no task vector."""
    embedding = prompts.read(run_dir / "embedding", 2).values
    other = PromptLibrary(run_dir.parent / "other")
    other.add("near", embedding, prompt_init="runs/mnli", task="unknown/task")
    for strategy, message in {
        "arithmetic": "`source` must have been trained from one of sampled_vocab, class_labels, "
        "uniform to have a task vector. Received: prompt_init='runs/mnli' of 'near'",
        "mixture": "`task` must be a known name. Received: task='unknown/task'",
    }.items():
        with pytest.raises(ValueError) as error:
            retrieve(strategy, run_dir, other, embedding_steps=2, **options)
        assert str(error.value).startswith(message)
        (run_dir / "transfer.json").unlink()
    other.remove("near")
    other.add("far", -embedding)
    with pytest.raises(ValueError) as error:
        retrieve("average", run_dir, other, embedding_steps=2, **options)
    assert str(error.value).startswith(
        "`library` must hold a source of positive similarity to weight by. Received: [('far', -"
    )


def test_the_command(library, options, tokenizer, data_dir, tmp_path, monkeypatch, capsys):
    from keras_spot import cli

    options["backbone"].save_to_preset(tmp_path / "preset")
    tokenizer.save_to_preset(tmp_path / "preset")
    (tmp_path / "preset" / "recipe.json").write_text(
        '{"prompt_length": 3, "batch_size": 4, "steps": 1, "checkpoint_every": 2}'
    )

    def run(*words):
        common = ("--task", TARGET, "--run-dir", tmp_path / "run", "--data-dir", data_dir)
        words = ("train", *common, "--backbone", tmp_path / "preset", *words)
        monkeypatch.setattr(sys, "argv", ["keras-spot", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out = capsys.readouterr()
        return caught.value.code, out.out, out.err

    for words, message in {
        ("--transfer", "top-k"): "error: `transfer` must be given together with `library`. "
        "Received: transfer='top-k', library=None\n",
        ("--library", "L"): "error: `transfer` must be given together with `library`. "
        "Received: transfer=None, library='L'\n",
        ("--transfer", "top-k", "--library", "L", "--prompt-init", "p.npz"): (
            "error: `prompt_init` must not be given with `transfer`, which finds one. "
            "Received: prompt_init='p.npz'\n"
        ),
        ("--transfer", "top-k", "--library", library.folder, "--k", 4): (
            "error: `k` must be at most 3, the library's sources for synthetic/products. "
            "Received: k=4\n"
        ),
    }.items():
        code, out, err = run(*words)
        assert (code, out.strip(), err) == (2, "", message)
        assert not (tmp_path / "run").exists()
    words = ("--transfer", "average", "--library", library.folder, "--k", 2)
    words += ("--similarity", "max_inner_product", "--embedding-steps", 1)
    code, out, err = run(*words, "--validation-limit", 4)
    assert (code, err) == (0, "")
    record = read(tmp_path / "run")
    assert (record["strategy"], record["by"]) == ("average", "max_inner_product")
    assert record["embedding_steps"] == 1
    for (name, similarity), weight in zip(record["ranking"], record["weights"]):
        row = next(line for line in out.splitlines() if name in line)
        assert f"{similarity:.3f}" in row
        assert f"{weight:.3f}" in row
    assert out.splitlines()[-1] == f"run: {tmp_path / 'run'}"


def test_the_command_says_how_weights_are_learned(keras_spot, monkeypatch, tmp_path):
    strategies = []

    def note(strategy, *arguments, **options):
        strategies.append(strategy)
        raise InvalidArgument("that is all")

    monkeypatch.setattr(retrieval, "retrieve", note)
    words = "train", "--task", TARGET, "--run-dir", tmp_path / "run", "--library", "L"
    for own, settings in {
        (): ("softmax", False),
        ("--weights", "free"): ("free", False),
        ("--train-weights", "with"): ("softmax", True),
        ("--train-weights", "before"): ("softmax", False),
    }.items():
        assert keras_spot(*words, "--transfer", "learned", *own) == (2, "", "error: that is all\n")
        assert (strategies[-1].weights, strategies[-1].joint) == settings
    for option, value in (("--weights", "free"), ("--train-weights", "with")):
        code, _, err = keras_spot(*words, "--transfer", "average", option, value)
        name = option[2:].replace("-", "_")
        message = f"`{name}` must be given with transfer='learned'. Received: {name}='{value}'"
        assert (code, err) == (2, f"error: {message}\n")


def test_a_source_whose_score_is_no_number_is_not_the_best(tmp_path):
    def target(*scores):
        bests = [None if score is None else {"step": 1, "score": score} for score in scores]
        runs = iter([TrainedRun(None, tmp_path, best, []) for best in bests])
        return SimpleNamespace(
            sources=[f"source{number}" for number in range(len(scores))],
            folder=SimpleNamespace(path=tmp_path, adopt=lambda run: None),
            library=SimpleNamespace(prompt=lambda name: None),
            train=lambda *arguments: next(runs),
        )

    best, facts = retrieval.TopK().transfer(target(None, 40.0, 50.0, 50.0, None))
    assert best.best["score"] == 50.0
    assert to_json(facts) == '{"scores": [null, 40.0, 50.0, 50.0, null]}'
    with pytest.raises(InvalidArgument, match="`score` must be a number for one source at least"):
        retrieval.TopK().transfer(target(None, None))

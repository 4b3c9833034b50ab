"""The table of the tiny T5's model card: does transfer beat prompt tuning from scratch?

    python -m tools.tiny_t5.card --data-dir DIR --work-dir DIR [--part 0/2]

A learning rate chosen on the source tasks and a prompt for each of them, then prompt tuning from
sampled vocabulary against transfer from the target's source, at equal steps, for every size and
seed; a run's prompt is the mean of those of its second half. Then both with 16 examples once more,
scored on the way, for ten seeds. Every finished run is a line of `results.jsonl` or `few.jsonl`,
and a call continues where an earlier one stopped; `--part i/n` shares the runs among n processes
that go at the same time; `--table` prints the tables.
"""

import argparse
import itertools
import json
import math
import pathlib
import time

import numpy as np

SOURCES = {"mr": "train", "snli": "test", "quora_pairs": "train"}
# Held-out tasks: rows of the train split, and the source, decided by the kind of task before any
# transfer was run; tasks of no source's kind take inference, the paper's best single source. Left
# out: BoolQ, whose passages are longer than what the model reads here; STS-B, which has no labels
# to rank; WiC, to save time.
TARGETS = {
    "glue/sst2": (20000, "mr"),
    "glue/mrpc": (3668, "quora_pairs"),
    "glue/rte": (2490, "snli"),
    "glue/cola": (8551, "snli"),
    "super_glue/cb": (250, "snli"),
    "super_glue/copa": (400, "snli"),
}
SIZES = (16, 256, None, 64)
SEEDS = (0, 1, 2)
METHODS = ("tuning", "transfer")
# Which examples a seed has decides most where they are few: more seeds, and after how many steps.
FEW = 16
FEW_SEEDS = range(10)
FEW_STEPS = (10, 20, 30, 45, 60)
# Candidates for the comparison; for a source, whose prompt may take longer, the first two.
RATES = (0.03, 0.1, 0.3)
SOURCE_RATES = RATES[:2]


def late_mean(model):
    """A Keras callback that leaves the mean of the prompts of a fit's second half: at a constant
    rate the share of each answer swings from step to step."""
    import keras

    class LateMean(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.prompts = []

        def on_train_batch_end(self, batch, logs=None):
            if 2 * batch + 1 >= self.params["steps"]:
                self.prompts.append(np.asarray(model.prompt))

        def on_train_end(self, logs=None):
            model.soft_prompt.prompt.assign(np.mean(self.prompts, 0))

    return LateMean()


class Bench:
    """One compiled model whose prompt is set back before every run."""

    def __init__(self, args):
        import keras_spot

        self.args, self.spot = args, keras_spot
        self.model = keras_spot.build(
            args.backbone,
            input_length=args.input_length,
            target_length=8,
            dtype=args.dtype,
        )
        self.table = self.model.backbone.token_embedding.embeddings
        self.model.optimizer.build(self.model.trainable_variables)
        self.optimizer = [v.numpy() for v in self.model.optimizer.variables]

    def start(self, prompt, seed: int, rate: float) -> None:
        """Set the prompt to an array, or to sampled vocabulary, and begin anew at a rate."""
        if prompt is None:
            initializer = self.spot.initializers.sampled_vocab(self.table, seed=seed)
            prompt = np.asarray(initializer(self.model.prompt.shape))
        self.model.soft_prompt.prompt.assign(prompt)
        for variable, value in zip(self.model.optimizer.variables, self.optimizer, strict=True):
            variable.assign(value)
        self.model.optimizer.learning_rate.assign(rate)

    def fit(
        self, task: str, split: str, steps: int, seed: int, batch: int | None = None, callback=None
    ) -> float:
        """Train the prompt; the last loss. By default the prompt is the late mean."""
        data = self.spot.load_task(
            task,
            split,
            self.model.preprocessor.tokenizer,
            batch or self.args.batch_size,
            data_dir=self.args.data_dir,
            seed=seed,
            shuffle=True,
            repeat=True,
            input_length=self.args.input_length,
            target_length=8,
            buckets=tuple(self.args.input_length // n for n in (4, 2, 1)),
        )
        history = self.model.fit(
            data,
            steps_per_epoch=steps,
            shuffle=False,
            verbose=0,
            callbacks=[callback or late_mean(self.model)],
        )
        return float(history.history["loss"][-1])

    def score(self, task: str, limit: int | None) -> tuple[dict, dict]:
        """The task's scores on its validation split (at most `limit` rows) by ranking its labels,
        and how often each label was given."""
        evaluation = self.spot.evaluate(
            self.model,
            task,
            method="rank",
            limit=limit,
            data_dir=self.args.data_dir,
            batch_size=50,
        )
        given: dict[str, int] = {}
        for record in evaluation.predictions:
            given[record["prediction"]] = given.get(record["prediction"], 0) + 1
        return evaluation.scores, given


def majority(args, task: str) -> dict:
    """Scores of always giving the most frequent label of the train split."""
    from keras_spot import data, tasks
    from keras_spot.tasks import metrics

    task = tasks.get(task)
    train = list(data.load_examples(task, "train", data_dir=args.data_dir))
    names, counts = np.unique([e.target for e in train], return_counts=True)
    rows = list(
        data.load_examples(task, task.validation[0], data_dir=args.data_dir, limit=args.limit)
    )
    return metrics.score(task, [str(names[counts.argmax()])] * len(rows), rows)


def lines(path: pathlib.Path) -> list[dict]:
    """Finished runs."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def note(path: pathlib.Path, **record) -> None:
    """Append a finished run in one write."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def split_of(task: str, size: int | None, seed: int, seeds: int = len(SEEDS)) -> str:
    """The rows a run trains on: all of them, or the seed's own `size` rows."""
    rows = TARGETS[task][0]
    if size is None or size >= rows:
        return "train"
    if size * seeds > rows:
        return f"train[:{size}]"
    return f"train[{seed * size}:{(seed + 1) * size}]"


def missing(path: pathlib.Path, part: tuple[int, int], together: int = 1, **axes):
    """Yield this process' share of the unfinished runs, every combination of the axes once.

    `together` runs that follow each other go to one process."""
    for number, run in enumerate(itertools.product(*axes.values())):
        key = dict(zip(axes, run, strict=True))
        mine = number // together % part[1] == part[0]
        if mine and not any(key.items() <= line.items() for line in lines(path)):
            yield key


def choose_rate(bench: Bench, part: tuple[int, int]) -> float:
    """The rate at which prompt tuning from sampled vocabulary does best on the source tasks, at
    the steps and sizes of the comparison; no target is looked at."""
    path = bench.args.work_dir / "rates.jsonl"
    axes = {"source": SOURCES, "size": (16, 256), "rate": RATES}
    for key in missing(path, part, **axes):
        source = key["source"]
        bench.start(None, 0, key["rate"])
        bench.fit(source, f"{SOURCES[source]}[:{key['size']}]", bench.args.steps, 0)
        note(path, **key, score=bench.score(source, bench.args.source_limit)[0]["score"])
    while len(rows := lines(path)) < math.prod(map(len, axes.values())):
        time.sleep(2)
    means = [np.mean([r["score"] for r in rows if r["rate"] == rate]) for rate in RATES]
    return RATES[int(np.argmax(means))]


def prompt_path(args, source: str, rate: float) -> pathlib.Path:
    return args.work_dir / f"{source}-{rate}.npz"


def train_sources(bench: Bench, part: tuple[int, int]) -> None:
    """Prompts for every source at every rate, of each the best of five checkpoints by the source's
    own validation."""
    args = bench.args
    for number, (source, rate) in enumerate(itertools.product(SOURCES, SOURCE_RATES)):
        path = prompt_path(args, source, rate)
        if number % part[1] != part[0] or path.exists():
            continue
        begun, scores, best = time.time(), [], None
        bench.start(None, 0, rate)
        for seed in range(5):
            bench.fit(source, SOURCES[source], args.source_steps // 5, seed, args.source_batch)
            scores.append(bench.score(source, args.source_limit)[0]["score"])
            if scores[-1] == max(scores):
                best = bench.model.prompt
        seconds = round(time.time() - begun, 1)
        note(
            args.work_dir / "sources.jsonl",
            source=source,
            rate=rate,
            scores=scores,
            seconds=seconds,
        )
        bench.model.soft_prompt.prompt.assign(best)
        bench.model.save_prompt(path, task=source)


def read_sources(bench: Bench) -> dict[str, np.ndarray]:
    """The sources' best prompts, once every process has written its share."""
    runs = list(itertools.product(SOURCES, SOURCE_RATES))
    while not all(prompt_path(bench.args, *run).exists() for run in runs):
        time.sleep(2)
    sources = sorted(lines(bench.args.work_dir / "sources.jsonl"), key=lambda r: max(r["scores"]))
    best = {r["source"]: prompt_path(bench.args, r["source"], r["rate"]) for r in sources}
    return {source: bench.spot.prompts.read(path).values for source, path in best.items()}


def compare(bench: Bench, starts: dict, part: tuple[int, int]) -> None:
    """Tuning and transfer from `starts` (target -> source, prompt), a target after the other."""
    path = bench.args.work_dir / "results.jsonl"
    axes = {"size": SIZES, "target": TARGETS, "seed": SEEDS, "method": METHODS}
    for key in missing(path, part, len(METHODS), **axes):
        size, target, seed, method = key.values()
        begun = time.time()
        source, prompt = starts[target] if method == "transfer" else (None, None)
        bench.start(prompt, seed, bench.args.learning_rate)
        loss = bench.fit(target, split_of(target, size, seed), bench.args.steps, seed)
        scores, given = bench.score(target, bench.args.limit)
        seconds = round(time.time() - begun, 1)
        note(path, **key, source=source, loss=loss, scores=scores, given=given, seconds=seconds)


def compare_few(bench: Bench, starts: dict, part: tuple[int, int]) -> None:
    """Both methods on few examples, scored after several numbers of steps."""
    import keras

    path, model = bench.args.work_dir / "few.jsonl", bench.model
    axes = {"target": TARGETS, "seed": FEW_SEEDS, "method": METHODS}
    for key in missing(path, part, len(METHODS), **axes):
        target, seed, method = key.values()
        prompts: list[np.ndarray] = []
        keep = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs, kept=prompts: kept.append(model.prompt)
        )
        begun, losses = time.time(), []
        bench.start(
            starts[target][1] if method == "transfer" else None, seed, bench.args.learning_rate
        )
        scores = {0: bench.score(target, bench.args.limit)[0]["score"]}
        rows = split_of(target, FEW, seed, len(FEW_SEEDS))
        for part_of, (before, steps) in enumerate(itertools.pairwise((0, *FEW_STEPS))):
            order = len(FEW_SEEDS) * seed + part_of
            losses.append(bench.fit(target, rows, steps - before, order, callback=keep))
            last = model.prompt
            model.soft_prompt.prompt.assign(np.mean(prompts[steps // 2 :], 0))
            scores[steps] = bench.score(target, bench.args.limit)[0]["score"]
            model.soft_prompt.prompt.assign(last)
        note(path, **key, losses=losses, scores=scores, seconds=round(time.time() - begun, 1))


def few_table(args) -> str:
    """What few examples gave, in Markdown: means over the targets, and over the seeds."""
    rows = lines(args.work_dir / "few.jsonl")
    if len(rows) < len(TARGETS) * len(FEW_SEEDS) * len(METHODS):
        return ""
    text = [
        f"**{FEW} target examples, {len(FEW_SEEDS)} seeds**: mean of the targets ± standard "
        "deviation (standard error)",
        "",
        "| steps | prompt tuning | SPoT | lead | seeds in which SPoT leads |",
        "|---|---|---|---|---|",
    ]

    def by_seed(method, steps):
        scores = {seed: [] for seed in FEW_SEEDS}
        for row in rows:
            if row["method"] == method:
                scores[row["seed"]].append(row["scores"][steps])
        return np.array([np.mean(runs) for runs in scores.values()])

    for steps in map(str, FEW_STEPS):
        tuning, transfer = (by_seed(method, steps) for method in METHODS)
        cells = [
            f"{v.mean():.1f} ± {v.std(ddof=1):.1f} ({v.std(ddof=1) / len(v) ** 0.5:.1f})"
            for v in (tuning, transfer, transfer - tuning)
        ]
        text.append(f"| {steps} | {' | '.join(cells)} | {(transfer > tuning).sum()} |")
    return "\n".join([*text, ""])


def table(args) -> str:
    """The comparison in Markdown, mean and standard deviation over the seeds, of the targets that
    both methods have finished."""
    rows = lines(args.work_dir / "results.jsonl")
    sources = {r["target"]: r["source"] for r in rows if r["source"]}
    majorities: dict[str, float] = {}
    text = []
    for size in SIZES:
        body = []
        by_seed: dict[str, list] = {"tuning": [], "transfer": []}
        floors = []
        for target in TARGETS:
            cells = []
            for method in METHODS:
                runs = [
                    r["scores"]["score"]
                    for s in SEEDS
                    for r in rows
                    if (r["target"], r["size"], r["seed"], r["method"]) == (target, size, s, method)
                ]
                if len(runs) == len(SEEDS):
                    cells.append(runs)
            if len(cells) == 2:
                for method, runs in zip(by_seed, cells, strict=True):
                    by_seed[method].append(runs)
                cells = [f"{np.mean(c):.1f} ± {np.std(c, ddof=1):.1f}" for c in cells]
                if target not in majorities:
                    majorities[target] = majority(args, target)["score"]
                floors.append(majorities[target])
                body.append(
                    f"| {target} | {floors[-1]:.1f} | {cells[0]} | {cells[1]} | {sources[target]} |"
                )
        if floors:
            means = {m: np.mean(v, axis=0) for m, v in by_seed.items()}
            cells = [f"{v.mean():.1f} ± {v.std(ddof=1):.1f}" for v in means.values()]
            text += [
                f"**{size or 'all'} target examples**",
                "",
                "| target | majority | prompt tuning | SPoT | source |",
                "|---|---|---|---|---|",
                *body,
                f"| **mean** | {np.mean(floors):.1f} | {cells[0]} | {cells[1]} | |",
                "",
            ]
    return "\n".join(text)


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=pathlib.Path, required=True)
    parser.add_argument("--work-dir", type=pathlib.Path, required=True)
    parser.add_argument("--part", default="0/1", help="share i of n processes")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--source-steps", type=int, default=400)
    parser.add_argument("--learning-rate", type=float, help="default: chosen on the sources")
    parser.add_argument("--backbone", default="tiny", help="preset or folder")
    parser.add_argument("--source-batch", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--input-length", type=int, default=128)
    parser.add_argument("--source-limit", type=int, default=300, help="sources' validation rows")
    parser.add_argument("--limit", type=int, help="targets' validation rows, default all")
    parser.add_argument("--dtype", default="mixed_bfloat16")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args(argv)
    args.work_dir.mkdir(parents=True, exist_ok=True)
    if args.table:
        print(table(args))
        print(few_table(args))
        return
    bench = Bench(args)
    share, of = map(int, args.part.split("/"))
    if args.learning_rate is None:
        args.learning_rate = choose_rate(bench, (share, of))
    train_sources(bench, (share, of))
    prompts = read_sources(bench)
    starts = {target: (source, prompts[source]) for target, (_, source) in TARGETS.items()}
    compare(bench, starts, (share, of))
    compare_few(bench, starts, (share, of))


if __name__ == "__main__":
    main()

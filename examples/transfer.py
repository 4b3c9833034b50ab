"""SPoT on real tasks: source prompt, target prompt from it, equal-step baseline, three seeds.

Command:  python examples/transfer.py --data-dir DIR --results examples/results
Pairs:    mr -> glue/sst2 and snli -> super_glue/cb (others with --pair SOURCE:TARGET)
Backbone: "tiny" (others with --backbone); with a real T5 the paper's budget is
          --backbone flan_base_multi --source-steps 262144 --target-steps 100000
Cost:     about 10 minutes on 2 cores with the defaults
Results:  examples/results/transfer.md, with the spread over the seeds
"""

import argparse
import collections
import dataclasses
import datetime
import json
import pathlib
import statistics

from keras_spot import backbones, load_examples, metrics, plots, tasks, train

PAIRS = ("mr:glue/sst2", "snli:super_glue/cb")
# snli's train split in the prepared data is small; its test split is to train on there.
SPLITS = {"snli": "train+test"}


def parse(words=None):
    """Return the command's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="prepared TFDS data; default: TFDS' own folder")
    parser.add_argument("--pair", action="append", help="SOURCE:TARGET, any number of times")
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--source-steps", type=int, default=300)
    parser.add_argument("--target-steps", type=int, default=100)
    parser.add_argument("--every", type=int, default=50, help="steps between validations")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--examples", type=int, help="target training examples; default: all")
    parser.add_argument("--validation", type=int, default=400, help="validation examples")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"))
    parser.add_argument("--results", type=pathlib.Path, default=pathlib.Path("examples/results"))
    return parser.parse_args(words)


def study(options):
    """Run every pair and return one record each; finished runs are only read."""
    backbone, tokenizer = backbones.load(options.backbone)
    recipe = backbones.recipe_for(options.backbone)
    records = []
    for pair in options.pair or PAIRS:
        source_name, target_name = pair.split(":")

        def run(name, folder, steps, every, seed, start=None, split="train"):
            return train(
                name,
                options.runs / folder,
                backbone=backbone,
                tokenizer=tokenizer,
                recipe=dataclasses.replace(recipe, checkpoint_every=every),
                steps=steps,
                prompt_init=start,
                data_dir=options.data_dir,
                split=split,
                validation_limit=options.validation,
                method="rank",
                devices="one_device",
                seed=seed,
            )

        slug = pair.replace("/", "-").replace(":", "--")
        source = run(
            source_name,
            f"{slug}/source",
            options.source_steps,
            options.source_steps,
            0,
            split=SPLITS.get(source_name, "train"),
        )
        cut = f"train[:{options.examples}]" if options.examples else "train"
        curves = {}
        for kind, start in (("SPoT", source.run_dir), ("prompt tuning", None)):
            for seed in range(options.seeds):
                trained = run(
                    target_name,
                    f"{slug}/{kind.replace(' ', '-')}-{seed}",
                    options.target_steps,
                    options.every,
                    seed,
                    start,
                    cut,
                )
                points = [(line["step"], line["score"]) for line in trained.history]
                curves.setdefault(kind, []).append(points)
        records.append(
            {"pair": pair, "source score": source.history[-1]["score"], "curves": curves}
        )
    return records


def majority(options, name):
    """Return the score of always answering the most frequent label of the training split."""
    task = tasks.get(name)
    trained = load_examples(task, "train", data_dir=options.data_dir)
    answer = collections.Counter(example.target for example in trained).most_common(1)[0][0]
    scored = list(
        load_examples(task, "validation", data_dir=options.data_dir, limit=options.validation)
    )
    return metrics.score(task, [answer] * len(scored), scored)["score"]


def report(options, records):
    """Write the table and the pictures."""
    today = datetime.date.today().isoformat()
    lines = [
        "# Transfer on real tasks",
        "",
        f"{today}, backbone `{options.backbone}`, {options.source_steps} source steps, "
        f"{options.target_steps} target steps, {options.seeds} seeds, "
        f"{options.examples or 'all'} target examples, at most {options.validation} validation "
        "examples, labels ranked. Score: mean ± standard deviation over the seeds at the last "
        "step (the mean of the task's metrics).",
        "",
        "| source → target | source score | majority class | prompt tuning | SPoT | gain |",
        "|---|---|---|---|---|---|",
    ]
    for record in records:
        last = {kind: [run[-1][1] for run in runs] for kind, runs in record["curves"].items()}
        cells = {
            kind: f"{statistics.fmean(v):.1f} ± {statistics.pstdev(v):.1f}"
            for kind, v in last.items()
        }
        gain = statistics.fmean(last["SPoT"]) - statistics.fmean(last["prompt tuning"])
        source, target = record["pair"].split(":")
        lines.append(
            f"| {source} → {target} | {record['source score']:.1f} | "
            f"{majority(options, target):.1f} | {cells['prompt tuning']} | {cells['SPoT']} | "
            f"{gain:+.1f} |"
        )
        picture = record["pair"].replace("/", "-").replace(":", "--") + ".png"
        options.results.mkdir(parents=True, exist_ok=True)
        plots.learning_curves(
            record["curves"], options.results / picture, title=f"{source} → {target}"
        )
        lines += [] if record is not records[-1] else ["", "Every point of every curve:"]
    (options.results / "transfer.json").write_text(json.dumps(records, indent=1))
    lines[-1] += " [transfer.json](transfer.json)."
    (options.results / "transfer.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    chosen = parse()
    report(chosen, study(chosen))

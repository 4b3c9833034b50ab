"""One prompt on all of SuperGLUE: every task's metrics and the benchmark's average.

Command:  python examples/superglue.py --prompt runs/mnli --backbone flan_base_multi --data-dir DIR
Cost:     one greedy pass over the validation splits; minutes with the tiny backbone
Expected: a prompt trained on one task answers the others with that task's labels: low scores
          and many invalid answers are the honest outcome of a zero-shot transfer. A prompt of the
          paper's multi-task mixtures is what this is for.

Tasks whose data are not prepared are named and left out; the average needs all eight.
"""

import argparse
import pathlib

from rich.console import Console
from rich.table import Table

from keras_spot import build, evaluate, metrics


def main(words=None):
    """Evaluate, print a table and return task -> scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompt", required=True, help="prompt file or run folder")
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--data-dir", help="prepared TFDS data; default: TFDS' own folder")
    parser.add_argument("--method", default="generate", choices=("generate", "beam"))
    parser.add_argument("--limit", type=int, help="examples of each task")
    parser.add_argument("--predictions", type=pathlib.Path, help="folder for JSON lines")
    options = parser.parse_args(words)

    model = build(options.backbone, pathlib.Path(options.prompt))
    results, missing = {}, []
    for task in metrics.BENCHMARKS["super_glue"]:
        try:
            result = evaluate(
                model, task, method=options.method, data_dir=options.data_dir, limit=options.limit
            )
        except FileNotFoundError as error:
            missing.append(str(error))
            continue
        results[task] = result.scores
        if options.predictions:
            result.write(options.predictions / f"{task.replace('/', '-')}.jsonl")

    table = Table("task", "metrics", "score", "invalid", title="SuperGLUE, validation")
    for task, scores in results.items():
        named = {k: v for k, v in scores.items() if k not in ("score", "invalid")}
        shown = ", ".join(f"{name} {value:.1f}" for name, value in named.items())
        table.add_row(task, shown, f"{scores['score']:.1f}", f"{scores.get('invalid', 0):.0f}")
    console = Console()
    console.print(table)
    for message in missing:
        console.print(f"left out: {message}")
    if not missing:
        scores = {task: value["score"] for task, value in results.items()}
        console.print(f"average: {metrics.benchmark('super_glue', scores):.1f}")
    return results


if __name__ == "__main__":
    main()

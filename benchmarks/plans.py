"""What backbones of every size need of TPUs: the plans behind the table in docs/scale.md.

    python -m benchmarks.plans [--file FILE] [--part TEXT]... [--only step]

Everything is compiled with libtpu, nothing is run. A row takes 2 to 15 minutes on 2 cores, all of
them some hours; what is in the file is not compiled again, so that the same command goes on where
it ended. `python tools/docs_made.py` then writes the table into the page.
"""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_spot.base.atomic import atomic_write
from keras_spot.model.plan import PARTS, Plan, Request, has_compiler, plan

FILE = Path(__file__).parent / "results" / "plans.jsonl"
_ONE, _SPREAD = "one_device", "model:8"

# The most asked for first: a file that is not finished serves its readers all the same.
ROWS = [
    Request("t5-xxl", "v5e:2x4", _SPREAD, 8),
    Request("t5-base", "v5e:2x2", _ONE, 32),
    Request("t5-base", "v5e:2x2", _ONE, 32, prompt_attention="prompt"),
    Request("t5-base", "v5e:2x2", _ONE, 32, remat=True),
    Request("t5-xl", "v5e:2x4", _SPREAD, 32),
    Request("t5-xxl", "v5e:4x4", "data:2,model:8", 16),
    Request("t5-xxl", "v5p:2x2x1", _ONE, 8, quantize="int8"),
    Request("t5-xxl", "v5e:2x4", _SPREAD, 8, quantize="int8"),
    Request("t5-large", "v5e:2x2", _ONE, 32),
    Request("t5-xl", "v5p:2x2x1", _ONE, 32, quantize="int8"),
    Request("t5-small", "v5e:2x2", _ONE, 32),
    Request("t5-large", "v5e:2x2", _ONE, 32, remat=True),
    Request("t5-large", "v5e:2x2", "data:4", 32),
    Request("t5-xl", "v5e:2x2", "model:4", 8),
    Request("t5-xxl", "v5e:2x4", _SPREAD, 32),
    Request("t5-xxl", "v5e:2x4", _SPREAD, 32, remat=True),
    Request("t5-xxl", "v5e:2x4", _SPREAD, 8, prompt_attention="prompt"),
    Request("t5-xxl", "v6e:2x4", _SPREAD, 32),
    Request("t5-xxl", "v5p:2x2x1", "model:4", 32),
    Request("t5-xl", "v6e:2x2", "model:4", 32),
    Request("t5-large", "v6e:2x2", _ONE, 32),
    Request("t5-base", "v6e:2x2", _ONE, 32),
    Request("t5-base", "v5p:2x2x1", _ONE, 32),
    Request("t5-xl", "v5e:2x4", "fsdp:8", 32),
    Request("t5-xxl", "v5e:2x4", "fsdp:8", 32),
]


def main(
    file: Annotated[Path, typer.Option(help="JSON lines.")] = FILE,
    part: Annotated[
        list[str] | None, typer.Option(help="Only rows with this text, such as t5-xxl.")
    ] = None,
    only: Annotated[str | None, typer.Option(help="step or generation. Default: both.")] = None,
) -> None:
    """Compile what is not in the file yet."""
    if not has_compiler():
        raise SystemExit("needs libtpu: pip install 'keras-spot[tpu]'")
    kept = read(file)
    for request in ROWS:
        key = key_of(request)
        if any(text not in key for text in part or []):
            continue
        present = kept.get(key, {}).get("costs", {})
        missing = [name for name in PARTS if name not in present and only in (None, name)]
        if not missing:
            continue
        print(key, ", ".join(missing), flush=True)
        try:
            made = plan(request, missing)
        except RuntimeError as error:
            print(f"failed: {error}", flush=True)
            continue
        kept[key] = line_of(request, made, present)
        with atomic_write(file, "w") as writer:
            writer.writelines(json.dumps(line) + "\n" for line in kept.values())


def read(file: Path = FILE) -> dict[str, dict[str, Any]]:
    """Return the lines of a file by `key_of`; none where there is no file."""
    if not file.is_file():
        return {}
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    names = [field.name for field in dataclasses.fields(Request)]
    return {key_of(Request(**{name: line[name] for name in names})): line for line in lines}


def key_of(request: Request) -> str:
    """Return a request in one line.

    >>> key_of(Request("t5-base", batch=8, quantize="int8"))
    't5-base v5e:2x2 one_device B=8 T=512 D=16 P=100 int8'
    """
    options = [request.quantize, "remat" if request.remat else None]
    options += [f"{request.prompt_attention} attention"] * (request.prompt_attention != "full")
    options += [request.dtype] * (request.dtype != "bfloat16")
    sizes = f"B={request.batch} T={request.tokens} D={request.targets} P={request.prompt_length}"
    named = [request.backbone, request.topology, request.devices, sizes, *options]
    return " ".join(filter(None, named))


def line_of(request: Request, made: Plan, present: dict[str, Any]) -> dict[str, Any]:
    """Return a line of the file, with the costs that it has already."""
    facts = {**dataclasses.asdict(request), **dataclasses.asdict(made)}
    return {**facts, "costs": {**present, **facts["costs"]}}


def table(lines: list[dict[str, Any]]) -> str:
    """Return the Markdown table of a file's lines."""
    head = ("backbone", "chips", "layout", "batch", "options", "weights", "step's peak")
    head += ("step's bound", "generation's peak", "generation's bound")
    rows = [head, ("---",) * len(head), *(_row(line) for line in lines)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(line: dict[str, Any]) -> tuple[str, ...]:
    options = [line["quantize"], "remat" if line["remat"] else None]
    options += [f"`{line['prompt_attention']}`"] * (line["prompt_attention"] != "full")
    costs = line["costs"]
    weights = [cost["arguments"] for cost in costs.values() if cost["arguments"]]
    cells = [line["backbone"].removeprefix("t5-"), line["topology"], line["devices"]]
    cells += [str(line["batch"]), ", ".join(filter(None, options)), _gib(max(weights, default=0))]
    for part in PARTS:
        cost = costs.get(part)
        bound = cost and cost["bound_seconds"]
        over = "" if cost is None or cost["fits"] else ", too much"
        cells += [
            (_gib(cost["peak"]) if cost else "") + over,
            f"{1e3 * bound:.0f} ms" if bound else "",
        ]
    return tuple(cells)


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB" if size else ""


if __name__ == "__main__":
    typer.run(main)

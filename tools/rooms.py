"""The package's rooms, from the ground up: what may import what.

A room imports only from rooms on lower floors; `tests/test_architecture.py` holds that.
"""

# Floor, room, its one job, what stands in it.
ROOMS = [
    (
        1,
        "base",
        "what everything stands on",
        "errors, files whole or absent, files read within limits, addresses, devices, the recipe, "
        "progress, versions",
    ),
    (
        2,
        "backbones",
        "frozen encoder-decoders by name",
        "names and addresses, fingerprints, converters, the embedded preset",
    ),
    (
        2,
        "tasks",
        "what is asked, and how an answer is scored",
        "records of tasks, rows, mixtures, user's tasks, metrics, a synthetic data set",
    ),
    (3, "data", "the only user of tf.data", "loaders, batches, buckets, positions, sources"),
    (
        3,
        "prompts",
        "a prompt and all that can be done to one without a model",
        "files in every form, initialisers, arithmetic, similarity, inspection, the hub",
    ),
    (
        4,
        "model",
        "a frozen backbone with a prompt in front",
        "the layer, the forward pass, generation, loss, optimiser, `build`, export; in `fast/` "
        "the same numbers faster",
    ),
    (
        5,
        "training",
        "one run, for one prompt or K",
        "the run, checkpoints, the run's folder, evaluation, submissions",
    ),
    (
        5,
        "serving",
        "from an exported model to answers",
        "engines, one class for each library that runs a model; the server and its page",
    ),
    (
        6,
        "transfer",
        "from other tasks' prompts to a start",
        "libraries of prompts, retrieval, gains",
    ),
    (
        7,
        "study",
        "grids of sources and targets",
        "descriptions, cells, claims, the engine, analysis, pictures, the report",
    ),
    (
        8,
        "cli",
        "parse, call one public function, print",
        "a file for each group of verbs; the demo",
    ),
]
FLOORS = {room: floor for floor, room, *_ in ROOMS}


def table() -> str:
    """Return the rooms as a Markdown table; `tools/docs_made.py` puts it into the documentation."""
    rows = [f"| {floor} | `{room}/` | {job} | {what} |" for floor, room, job, what in ROOMS]
    return "\n".join(
        ["| floor | room | its one job | what stands in it |", "|---|---|---|---|", *rows]
    )

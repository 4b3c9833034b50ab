"""The README of an exported folder: what is in it, and three lines for its engine."""

import shlex
from pathlib import Path

from keras_spot.model.export.merged import Merged

__all__ = ["write_readme"]

_HEAD = """# {title}

A T5 with {prompts}, written by keras_spot as `{form}`. `task.json` says of each prompt how the
fields of its task read as text (`input`), which answers there are (`labels`) and how long they are.

| prompt | input | labels |
|---|---|---|
{rows}

Texts have at most {length} tokens besides the prompt's {prompt_length}; what is longer must be cut.

"""

_TRANSFORMERS = """## transformers

A prompt is {prompt_length} words of the vocabulary, `<spot:...>`: what the model reads is these
words and the text. They are known as words wherever they stand, so take them out of texts of
strangers. The model never generates them (`suppress_tokens` in `generation_config.json`; who calls
`model(...)` for scores must leave the ids from {first} on out, too).

```python
import json, transformers
tokenizer = transformers.AutoTokenizer.from_pretrained("{folder}")
model = transformers.AutoModelForSeq2SeqLM.from_pretrained("{folder}")
words = json.load(open("{folder}/task.json"))["words"][{name!r}]
ids = tokenizer("".join(words) + {text!r}, truncation=True, return_tensors="pt")
print(tokenizer.batch_decode(model.generate(**ids), skip_special_tokens=True))
```

CTranslate2 and ONNX Runtime run other forms of the same model: `keras-spot export --format
ctranslate2` and `--format onnx`.
"""

_CTRANSLATE2 = """## CTranslate2

`pip install ctranslate2 sentencepiece`. A prompt is {prompt_length} words of the source vocabulary
that no text becomes; the model cannot generate them.

```python
import json, ctranslate2, sentencepiece
model = ctranslate2.Translator("{folder}")
pieces = sentencepiece.SentencePieceProcessor("{folder}/spiece.model")
words = json.load(open("{folder}/task.json"))["words"][{name!r}]
tokens = words + pieces.encode({text!r}, out_type=str) + ["</s>"]
answer = model.translate_batch(
    [tokens], beam_size=1, max_input_length=0, max_decoding_length={answer_length}
)
print(pieces.decode(answer[0].hypotheses[0]))
```
"""

_ONNX = """## ONNX Runtime

`pip install onnxruntime sentencepiece`. `answer.py` is all that it takes beside these: a module
that decodes, and a command:

```python
from answer import Answerer

answerer = Answerer(".")
print(answerer.generate([{text!r}], [{name!r}]))
```

```bash
python answer.py {command}
```

Other programs run the two graphs themselves. Letters: B texts of T tokens, end token last, padded
with 0; P prompt tokens; n heads of width d; D target tokens; i each layer.

| `encoder.onnx` | |
|---|---|
| `input_ids`, `attention_mask` | int64 [B, T] |
| `prompt_index` | int64 [B], the number of each text's prompt |
| gives `cross_key_i`, `cross_value_i` | [B, n, P + T, d] |

| `decoder.onnx` | |
|---|---|
| `input_ids` | int64 [B, D]: first 0, then the last token |
| `attention_mask`, `cross_key_i`, `cross_value_i` | the encoder's |
| `past_key_i`, `past_value_i` | [B, n, past, d], at first empty |
| gives `logits`, `next_ids` | [B, D, V], int64 [B, D] |
| gives `present_key_i`, `present_value_i` | the next step's past |
"""


def write_readme(folder: Path, merged: Merged, max_length: int) -> None:
    """Write `README.md` for the form that `merged` becomes.

    Args:
        folder: of the form.
        merged: what is exported.
        max_length: target tokens at most, of prompts that say nothing else.
    """
    body = {"transformers": _TRANSFORMERS, "ctranslate2": _CTRANSLATE2, "onnx": _ONNX}[merged.form]
    name, card = next(iter(merged.cards.items()))
    text = card.text(dict.fromkeys(card.fields, "a text"))
    rows = [
        f"| {_cell(name)} | {_cell(card.input)} | {_cell(', '.join(card.labels))} |"
        for name, card in merged.cards.items()
    ]
    count = len(merged.cards)
    facts = {
        "title": "A T5 with trained prompts" if count > 1 else f"A T5 with the prompt {name}",
        "prompts": f"{count} trained prompts" if count > 1 else "a trained prompt",
        "form": merged.form,
        "rows": "\n".join(rows),
        "length": merged.model.preprocessor.encoder_sequence_length,
        "prompt_length": merged.prompts.shape[1],
        "first": merged.architecture.vocabulary_size,
        "folder": ".",
        "name": name,
        "text": text,
        "command": shlex.join([name, text]),
        "answer_length": card.max_target_length or max_length,
    }
    (folder / "README.md").write_text((_HEAD + body).format(**facts), encoding="utf-8")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ") or "a free text"

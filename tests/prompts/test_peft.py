"""Hugging Face PEFT and this package read each other's adapters."""

import pytest

from keras_spot import prompts

torch = pytest.importorskip("torch", reason="needs torch")
peft = pytest.importorskip("peft", reason="needs PEFT")
transformers = pytest.importorskip("transformers", reason="needs transformers")

# PEFT's use of transformers, not ours of either.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

P, H = 5, 16


def base():
    config = transformers.T5Config(
        vocab_size=40,
        d_model=H,
        d_kv=8,
        d_ff=24,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
        dropout_rate=0.0,
    )
    torch.manual_seed(0)
    return transformers.T5ForConditionalGeneration(config).eval()


@pytest.fixture
def inputs():
    ids = torch.tensor([[5, 9, 21, 1], [7, 1, 0, 0]])
    labels = torch.tensor([[8, 3, 1], [11, 1, -100]])
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels}


def with_prompt(model, prompt, inputs):
    """Return the arguments of a plain T5 that gets the prompt in front of its embedded input."""
    rows = torch.tensor(prompt).expand(len(inputs["input_ids"]), -1, -1)
    embedded = torch.cat([rows, model.get_input_embeddings()(inputs["input_ids"])], dim=1)
    ones = torch.ones(rows.shape[:2], dtype=torch.long)
    mask = torch.cat([ones, inputs["attention_mask"]], dim=1)
    return {"inputs_embeds": embedded, "attention_mask": mask}


def trained(config_class, **options):
    """Return PEFT's model with an adapter of random numbers."""
    config = config_class(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=P, **options)
    model = peft.get_peft_model(base(), config).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.prompt_encoder.parameters():
            parameter.normal_()
    return model


@pytest.mark.parametrize("submodules", [None, 1, 2])
def test_a_prompt_of_pefts_gives_the_same_logits_here(tmp_path, inputs, submodules):
    theirs = trained(peft.PromptTuningConfig, num_transformer_submodules=submodules)
    theirs.save_pretrained(tmp_path / "theirs")
    actual = prompts.read(tmp_path / "theirs")
    assert actual.values.shape == (P, H)
    with torch.no_grad():
        expected = theirs(**inputs).logits
        plain = base()
        logits = plain(**with_prompt(plain, actual.values, inputs), labels=inputs["labels"]).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)

    # And back: PEFT loads what is written here, and gives the same.
    prompts.write(tmp_path / "ours", actual.values, {"task": "glue/rte"}, "peft")
    loaded = peft.PeftModel.from_pretrained(base(), tmp_path / "ours").eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(**inputs).logits, expected, rtol=0, atol=1e-6)
    loaded.save_pretrained(tmp_path / "again")
    again = prompts.read(tmp_path / "again")
    assert again.values.tobytes() == actual.values.tobytes()
    assert again.provenance == {"peft_type": "PROMPT_TUNING"}


@pytest.mark.parametrize(("submodules", "tasks"), [(1, 1), (None, 3)])
def test_a_multitask_adapter(tmp_path, inputs, submodules, tasks):
    theirs = trained(
        peft.MultitaskPromptTuningConfig,
        num_tasks=tasks,
        num_ranks=2,
        num_transformer_submodules=submodules,
    )
    theirs.save_pretrained(tmp_path / "theirs")
    task = tasks - 1
    actual = prompts.read(tmp_path / "theirs", task_id=task)
    ids = torch.full((2,), task)
    plain = base()
    ours = with_prompt(plain, actual.values, inputs)
    with torch.no_grad():
        if submodules == 1:
            expected = theirs(**inputs, task_ids=ids).logits
            logits = plain(**ours, labels=inputs["labels"]).logits
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
        options = {"max_new_tokens": 6, "do_sample": False}
        asked = {key: inputs[key] for key in ("input_ids", "attention_mask")}
        expected = theirs.generate(**asked, task_ids=ids, **options)
        assert plain.generate(**ours, **options).tolist() == expected.tolist()

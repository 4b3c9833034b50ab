"""Forms of a prompt on disk: arrays, the reference's layout, T5X checkpoints, PEFT adapters."""

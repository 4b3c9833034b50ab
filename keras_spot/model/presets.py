"""Models of KerasHub's presets, whose weights come from the file alone."""

from typing import Any

from keras_hub.src.utils import preset_utils

from keras_spot.backbones import filling, named

__all__ = ["load_task"]


def load_task(cls: Any, preset: str, load_weights: bool, options: dict[str, Any]) -> Any:
    """Return the model of a preset, or a new one on the T5 of a preset without a model.

    Args:
        cls: the model's class.
        preset: name, folder or address.
        load_weights: False: the weights are drawn at random.
        options: of KerasHub's `from_preset`.
    """
    loader = preset_utils.get_preset_loader(preset)
    is_ours = preset_utils.check_file_exists(preset, preset_utils.TASK_CONFIG_FILE)
    is_plain = isinstance(loader, preset_utils.KerasPresetLoader) and not is_ours
    if is_plain and load_weights and "backbone" not in options:
        dtype = {"dtype": options["dtype"]} if "dtype" in options else {}
        options = {name: value for name, value in options.items() if name != "dtype"}
        options["backbone"] = named.from_preset(preset, **dtype)
    with filling.file_follows(load_weights):
        return loader.load_task(cls, load_weights, True, **options)

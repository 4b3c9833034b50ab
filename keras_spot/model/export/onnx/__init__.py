"""A T5 behind its prompts as two ONNX graphs, an encoder and a decoder with a cache."""

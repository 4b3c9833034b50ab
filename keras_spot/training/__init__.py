"""One training run: from a task and a start to checkpoints, scores and answers."""

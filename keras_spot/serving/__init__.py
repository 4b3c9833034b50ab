"""From an exported model to answers: engines that run it."""

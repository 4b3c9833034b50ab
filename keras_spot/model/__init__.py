"""A frozen backbone with a soft prompt in front: layers, losses, optimiser, generation, export."""

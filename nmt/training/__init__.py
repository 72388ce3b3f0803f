"""The training loop and its parts: loss, schedule, checkpoints of a run."""

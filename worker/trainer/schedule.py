"""What happens at which step: the learning rate, and when to evaluate."""

import math

from app.training.config import TrainConfig


def learning_rate(config: TrainConfig, step: int, total_steps: int) -> float:
    """Return the rate of the update after `step` updates: linear warm-up, then as scheduled.

    Args:
        config: The highest rate, the share of the steps that warm up, and the schedule.
        step: From 0 to `total_steps` - 1.
        total_steps: Of the job.

    Source: the cosine is SGDR's, arXiv:1608.03983, equation 5, without restarts, down to 0.
    """
    warmup = math.ceil(config.warmup_share * total_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(1, total_steps - warmup)
    match config.schedule:
        case "constant":
            return config.learning_rate
        case "linear":
            return config.learning_rate * (1 - share)
        case "cosine":
            return config.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def evaluation_steps(total_steps: int, num_evaluations: int) -> set[int]:
    """Return after which steps to evaluate: evenly spaced, the last step among them."""
    num = min(num_evaluations, total_steps)
    return {round(total_steps * (index + 1) / num) for index in range(num)}

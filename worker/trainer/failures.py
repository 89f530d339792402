"""Why training cannot go on: an exit code for the supervisor, a sentence for a person."""

from app.training import events


class Failure(Exception):
    """Training ends here.

    Args:
        code: A stable word for programs.
        message: What happened and what to do about it.
        exit_code: One of app.training.events' EXIT_ codes.
    """

    def __init__(self, code: str, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.exit_code = exit_code


class Misfit(ValueError):
    """What was given does not fit; the message is ours, for a person, to go on behind a colon."""


class Stopped(Exception):
    """A person or a drain asked to stop; a checkpoint of this step is on disk."""


def dataset_invalid(message: str) -> Failure:
    return Failure("dataset_invalid", message, events.EXIT_DATASET)


def model_rejected(message: str) -> Failure:
    return Failure("model_rejected", message, events.EXIT_MODEL)


def start_rejected(message: str) -> Failure:
    return Failure("adapter_rejected", message, events.EXIT_MODEL)


def no_device() -> Failure:
    return _device_failed(
        "PyTorch finds no usable GPU on this machine; an administrator can find out more with "
        "“etude doctor”."
    )


def device_broken() -> Failure:
    return _device_failed("The GPU reported an error; the job resumes from its last checkpoint.")


def _device_failed(message: str) -> Failure:
    return Failure("device_failed", message, events.EXIT_DEVICE)


def checkpoint_unusable(step: int) -> Failure:
    return Failure(
        "checkpoint_unusable",
        f"The checkpoint of step {step} cannot be used; the job resumes from the one before.",
        events.EXIT_CHECKPOINT,
    )


def out_of_memory() -> Failure:
    return Failure(
        "out_of_memory",
        "The machine has too little memory even for one example at a time; choose a smaller "
        "starting model, or a smaller “Longest example”.",
        events.EXIT_OUT_OF_MEMORY,
    )


def base_not_finite(name: str) -> Failure:
    """Say that what training starts from has no loss.

    Args:
        name: Of the adapter that it starts from; empty: the starting model itself.
    """
    what = f"The trained model “{name}”, from which it starts," if name else "The starting model"
    return Failure(
        "loss_not_finite",
        f"{what} has no loss on these examples: what it computes is no number, so nothing can be "
        "learned from there. Choose another one, or have its files imported again.",
        events.EXIT_NOT_FINITE,
    )


def loss_not_finite(step: int) -> Failure:
    return Failure(
        "loss_not_finite",
        f"At step {step} the loss was no longer a number, even after going back and halving the "
        "learning rate; choose a smaller learning rate and look for odd examples.",
        events.EXIT_NOT_FINITE,
    )

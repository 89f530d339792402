"""`etude ask` and `etude evaluate`: a question, a chat, or how many answers are right."""

import sys
from typing import Annotated

import typer

from app.ops.doors.shared import DataDir, Json, api_of, print_json

ModelName = Annotated[
    str, typer.Argument(help="A model: its name in /v1 (ft:…), its number, or its name")
]


def ask(
    adapter: ModelName,
    question: Annotated[
        str | None, typer.Argument(help="What to ask; without it, a chat begins")
    ] = None,
    base: Annotated[
        bool, typer.Option("--base", help="Ask the model as it was before training, too")
    ] = False,
    system: Annotated[
        str | None,
        typer.Option(
            help='Instruction for the model; the default is the one it was trained with, "" is none'
        ),
    ] = None,
    temperature: Annotated[
        float, typer.Option(min=0, max=2, help="How free it answers; 0 says the same each time")
    ] = 0,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="How long an answer may be, in tokens")
    ] = 1024,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Ask a model that you trained, or a starting model. The words appear as they come.

    Questions of a chat can come through a pipe, one in a line. Ctrl-C stops the answer.
    """
    from app.ops import ask_command

    if as_json and question is None:
        raise SystemExit("etude: with --json, say the question, too.")
    if question is not None and not question.strip():
        raise SystemExit("etude: the question is empty.")
    wish = ask_command.Wish(temperature, max_tokens, system)
    talks = ask_command.open_talks(api_of(data_dir), adapter, wish, with_base=base)
    if question is None:
        ask_command.chat(talks)
    elif as_json:
        ask_command.once_as_json(talks, question)
    else:
        ask_command.once(talks, question)


def evaluate(
    adapter: ModelName,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Questions and answers of your own, all of which are asked; the default is what "
            "was set apart from the model's data",
        ),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Count how many of a trained model's answers to the test questions are right.

    It takes some minutes of the model's device. Ctrl-C only stops the waiting.
    """
    from app.ops import evaluate_command
    from app.ops.terminal import sayer

    api, tell = api_of(data_dir), sayer(typer.echo, err=True)
    begun = evaluate_command.start(api, adapter, data, tell)
    ended = evaluate_command.watch(api, begun, tell)
    if as_json:
        print_json(evaluate_command.with_rows(api, ended))
    else:
        evaluate_command.show(ended, sys.stdout)
    raise SystemExit(0 if ended["status"] == "done" else 1)

"""Control words of models in a text, and whole chat templates written out as one.

No model takes them for more than letters (app/training/control_words.py), so whoever sent a
template that was rendered already has to hear it.
"""

import re
from collections.abc import Iterable

from app.datasets.turns import Noted

_CONTROL = re.compile(
    r"<\|[a-z_]{2,30}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<(?:bos|eos)>"
)
# How a template begins, and with what it goes over to an answer.
_WHOLE = re.compile(
    r"\s*(?:<s>|<bos>|<\|begin_of_text\|>)?\s*(?:"
    r"(<\|im_start\|>)(?:system|user)\b.*<\|im_start\|>assistant"
    r"|(<\|start_header_id\|>)(?:system|user)<.*<\|start_header_id\|>assistant<"
    r"|(<start_of_turn>)user\b.*<start_of_turn>model"
    r"|(<\|(?:system|user)\|>).*<\|assistant\|>"
    r"|(\[INST\]).*\[/INST\]"
    r"|(?:.*\n)?(### (?:Instruction|Human):).*### (?:Response|Assistant):)",
    re.DOTALL,
)


def note(texts: Iterable[str], joined: str, noted: Noted) -> None:
    """Note what is in a row's texts; `joined` is all of them, since most have nothing."""
    # Asked of every row: one after the other is quicker than a loop.
    if "<" not in joined and "[" not in joined and "#" not in joined:
        return
    for text in texts:
        if whole := _WHOLE.match(text):
            noted.add(("template", next(filter(None, whole.groups()))))
        else:
            noted.update(("control", word) for word in _CONTROL.findall(text))

"""What a state is called on pages: a word, and the dot before it; dots are of the style.

What each noun's states are called, and what may be done in them, its own module says:
`datasets/states.py`, `jobs/states.py`, `base_models/states.py` and `adapters/states.py`.
"""

from typing import Literal, NamedTuple

Dot = Literal["wait", "live", "good", "warn", "bad"]


class StatusWord(NamedTuple):
    """A state as people read it: a word, and the colour of the dot before it."""

    word: str
    dot: Dot

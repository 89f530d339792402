"""Whether an answer is right, partly right, wrong, or for a person to check.

Rules, no model: the same answer gets the same mark on every machine, and its reason in words.
`python -m app.evaluation.marks` marks lines of {question, reference, answer}; docs/evaluation.md
says what the rules see, what they do not, and how often they are wrong.
"""

from app.evaluation.marks.examples import mark_example
from app.evaluation.marks.marked import Marked
from app.evaluation.marks.rules import mark

__all__ = ["Marked", "mark", "mark_example"]

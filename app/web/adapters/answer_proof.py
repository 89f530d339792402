"""Signs what a model said where nothing is kept, so that nobody reports words it never said."""

import hashlib
import hmac
import json
import re
from dataclasses import dataclass

from app.core import secrets, settings
from app.web.render import visible

_KEY_NAME = "answer-proof"
_NEW_LINE = re.compile(r"\r\n?")


@dataclass(frozen=True)
class Question:
    """Who asked which adapter what."""

    adapter_id: int
    user_id: int
    text: str

    def proof(self, answer: str) -> str:
        """Sign an answer to it, as far as it came."""
        said = [self.adapter_id, self.user_id, _as_sent(self.text), _as_sent(answer)]
        key = secrets.get(settings.get(), _KEY_NAME).encode()
        return hmac.new(key, json.dumps(said).encode(), hashlib.sha256).hexdigest()

    def is_answer(self, answer: str, proof: str) -> bool:
        """Say whether an answer is one that the model gave to it."""
        return hmac.compare_digest(self.proof(answer).encode(), proof.encode())


def _as_sent(text: str) -> str:
    """Undo what a page and a form make of a text."""
    return _NEW_LINE.sub("\n", visible(text)).strip()

"""`python -m worker.answering.wording`: conversations -> token ids, for a vLLM of the site.

A child, since a starting model's chat template comes from strangers. The first line names the
model's folder and the hash of its manifest. Each further one is {"id", "messages", "tools",
"is_score"}, answered by {"id", "token_ids", "num_prompt"} or {"id", "error"}. Its standard input
staying open is its licence to live; it stands within walls (app/training/isolation).
"""

import json
import signal
import sys
from pathlib import Path
from typing import Any

from app.core.confined.kept import LOAD_SECONDS, REQUEST_SECONDS
from app.training import isolation, manifests
from app.training.chat import IGNORE_INDEX, ChatError, ChatFormat

_DATA_BYTES = 4 * 1024**3
_LOG_BYTES = 4 * 1024**3  # what it says of a fault goes to its worker's log


def main() -> None:
    opening = json.loads(sys.stdin.readline())
    folder, cache_dir = Path(opening["base"]), Path(opening["cache_dir"])
    try:
        confine(folder, cache_dir)
        found = manifests.verify_once(folder, cache_dir)
        _allow(LOAD_SECONDS)
        chat = ChatFormat.load(folder)
    except isolation.WallsMissing as error:
        _tell(error=str(error))
        return
    except ChatError as error:
        _tell(error=f"This model cannot be asked: {str(error).splitlines()[0]}")
        return
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)  # for the log alone: it names places on this machine
        _tell(error="This model's files on the server are damaged; import it again.")
        return
    if found != opening["manifest_sha256"]:
        _tell(error="This model's files on the server are not those that were imported.")
        return
    _tell(ends=sorted(chat.end_token_ids))
    _allow(0)
    for line in sys.stdin:
        asked = json.loads(line)
        _allow(REQUEST_SECONDS)
        try:
            if chat.must_prepare(asked):
                _allow(LOAD_SECONDS)
            _tell(id=asked["id"], **encode(chat, asked))
        except ChatError as error:
            _tell(id=asked["id"], error=str(error).splitlines()[0])
        except (ValueError, TypeError, KeyError) as error:
            print(type(error).__name__, file=sys.stderr)  # its words may quote what people wrote
            _tell(id=asked["id"], error="This model cannot read this conversation.")
        _allow(0)


def confine(folder: Path, cache_dir: Path) -> None:
    """Keep the model's files, and the notes that say which were hashed before.

    Raises:
        WallsMissing: this machine cannot see to it.
    """
    isolation.confine(
        isolation.Needs(
            reads=[folder, cache_dir],
            limits=isolation.Limits(data_bytes=_DATA_BYTES, file_bytes=_LOG_BYTES),
        )
    )


def encode(chat: ChatFormat, asked: dict[str, Any]) -> dict[str, Any]:
    """Return the ids of a prompt; of a conversation to be scored, its answer's behind them."""
    if not asked["is_score"]:
        ids = chat.encode_prompt(asked["messages"], asked["tools"])
        return {"token_ids": ids, "num_prompt": len(ids)}
    encoded = chat.encode(asked["messages"], 2**62, asked["tools"])
    scored = [i for i, label in enumerate(encoded.labels) if label != IGNORE_INDEX]
    # Of several answers in a conversation the last one.
    first = next((i for i in reversed(scored) if i - 1 not in scored), 0)
    end = scored[-1] + 1 if scored else len(encoded.token_ids)
    return {"token_ids": encoded.token_ids[:end], "num_prompt": first}


def _allow(seconds: float) -> None:
    """Let the process compute for so long; then the kernel ends it. 0: as it likes."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def _tell(**said: Any) -> None:
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()

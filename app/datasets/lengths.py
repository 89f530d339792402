"""How long examples are in a base model's tokens, by its own tokenizer and chat template."""

from functools import lru_cache

from sqlalchemy.orm import Session

from app import base_models
from app.chat import ChatError, ChatFormat
from app.datasets import examples
from app.errors import Invalid
from app.models import BaseModel, DatasetVersion
from app.training_plan import LengthHistogram

MAX_SAMPLE = 2000
# Longer ones are cut in training as well; counting further tells nothing.
_MAX_LENGTH_TOKENS = 1_000_000
_BATCH = 250


def histogram(
    db: Session, version: DatasetVersion, base_model: BaseModel, max_sample: int = MAX_SAMPLE
) -> LengthHistogram:
    """Return the token lengths of a ready version, counted once and kept with the version.

    At most `max_sample` examples, spread evenly over the version, stand for all of them.

    Raises:
        Conflict: the base model is not ready.
        Invalid: its files or its chat template cannot write these examples.
    """
    key = str(base_model.id)
    known = (version.token_lengths or {}).get(key)
    if known is not None:
        return LengthHistogram.model_validate(known)
    folder = base_models.folder(base_model)
    try:
        chat = _chat_format(str(folder), base_model.manifest_sha256)
    except ChatError as error:
        raise Invalid(str(error), field="base_model_id") from error
    sample = examples.sample(db, version, max_sample)
    lengths, problem = _lengths(chat, [example.messages for example in sample])
    if problem is not None and not lengths:
        raise Invalid(
            f"{base_model.label} cannot take these examples: {problem}", field="base_model_id"
        )
    counted = LengthHistogram.from_lengths(lengths, version.num_train, version.num_validation)
    version.token_lengths = (version.token_lengths or {}) | {key: counted.model_dump(mode="json")}
    db.flush()
    return counted


def _lengths(
    chat: ChatFormat, conversations: list[list[dict[str, object]]]
) -> tuple[list[int], ChatError | None]:
    lengths: list[int] = []
    problem: ChatError | None = None
    for start in range(0, len(conversations), _BATCH):
        batch = conversations[start : start + _BATCH]
        try:
            encoded = chat.encode_many(batch, _MAX_LENGTH_TOKENS)
        except ChatError:
            encoded = []
            for messages in batch:
                try:
                    encoded.append(chat.encode(messages, _MAX_LENGTH_TOKENS))
                except ChatError as error:
                    problem = error
        lengths += [len(one.token_ids) for one in encoded]
    return lengths, problem


# The manifest's hash is part of the key: another model in the same folder is read anew.
@lru_cache(maxsize=4)
def _chat_format(folder: str, _manifest_sha256: str | None) -> ChatFormat:
    return ChatFormat.load(folder)

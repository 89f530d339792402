"""How long a version's examples are in tokens of a base model; kept with the version."""

from sqlalchemy import Integer, func, select
from sqlalchemy.orm import Session

from app import base_models
from app.chat import ChatError, ChatFormat
from app.errors import Invalid
from app.models import BaseModel, DatasetVersion, Example
from app.training_plan import LengthHistogram

# Enough for a plan; a million examples would keep a page waiting.
_MAX_SAMPLE = 2000


def histogram(db: Session, version: DatasetVersion, base_model: BaseModel) -> LengthHistogram:
    """Measure a ready version with a ready model's own tokenizer and chat template, once.

    Raises:
        Conflict: the model is not ready.
        Invalid: the model's template cannot take these conversations.
    """
    known = (version.token_lengths or {}).get(str(base_model.id))
    if known is not None:
        return LengthHistogram.model_validate(known)
    chat = ChatFormat.load(base_models.folder(base_model))
    total = version.num_train + version.num_validation
    stride = max(1, -(-total // _MAX_SAMPLE))
    # Every so many-th, not the first: files are often sorted by length or kind.
    sample = db.scalars(
        select(Example.messages).where(
            Example.version_id == version.id,
            func.mod(Example.index, stride, type_=Integer) == 0,
        )
    )
    try:
        texts = [chat.render(messages) for messages in sample]
    except ChatError as error:
        raise Invalid(
            f"{base_model.label} cannot take these examples: {error}", field="base_model_id"
        ) from None
    encoded = chat.tokenizer.encode_batch(texts, add_special_tokens=False)
    counts = [len(one.ids) for one in encoded]
    found = LengthHistogram.from_lengths(counts, version.num_train, version.num_validation)
    # A new dictionary: a change inside the old one would not be noticed, and not be stored.
    version.token_lengths = {
        **(version.token_lengths or {}),
        str(base_model.id): found.model_dump(mode="json"),
    }
    db.flush()
    return found

"""What the doctor's process is asked to do."""

from pydantic import BaseModel


class DoctorRequest(BaseModel):
    """Which examples to look at, and within which limits."""

    file: int  # an open file of lines, see doctor.rows
    num_examples: int
    has_three_parts: bool = True  # practice, check and test; else what is not practised tests
    parent: int
    # Whose tokenizer counts what would be cut off; none: nothing is counted.
    model_folder: str | None = None
    limit_tokens: int
    writes_bits: bool
    memory_bytes: int
    cpu_seconds: int

"""What the process that looks for personal details is asked to do."""

from pydantic import BaseModel


class ScanRequest(BaseModel):
    """With which patterns to search, and within which limits."""

    parent: int
    memory_bytes: int
    cpu_seconds: int
    patterns: list[tuple[str, str]] = []
    recognizer: str = ""

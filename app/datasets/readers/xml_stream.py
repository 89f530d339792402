"""XML of office documents, read as a stream: no document types, no entities, no endless depth."""

from collections.abc import Iterator
from typing import IO, Any
from xml.parsers import expat

from app.datasets.readers.unreadable import Unreadable

MAX_DEPTH = 200
_CHUNK_BYTES = 64 * 1024


class XmlStream:
    """A parser that refuses document types, and with them entities of any kind.

    Tags and attributes come by their local names.
    """

    what = "document"  # in sentences: “This … is damaged”
    program = "the program it comes from"

    def __init__(self) -> None:
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.buffer_size = _CHUNK_BYTES
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self.text
        self.depth = 0
        self._local: dict[str, str] = {}

    def feed(self, stream: IO[bytes]) -> Iterator[None]:
        """Parse a stream; yields after each chunk."""
        try:
            while chunk := stream.read(_CHUNK_BYTES):
                self.parser.Parse(chunk, False)
                yield
            self.parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise Unreadable(
                f"This {self.what} is damaged (its text breaks off at line {error.lineno:,} of its "
                f"XML); open it in {self.program}, save it again and upload that."
            ) from None
        yield

    def read(self, stream: IO[bytes]) -> None:
        """Parse a whole stream."""
        for _ in self.feed(stream):
            pass

    def _refuse(self, *_: Any) -> None:
        raise Unreadable(
            f"This {self.what} has a document type of its own (DTD), which {self.program} never "
            f"writes; open it in {self.program}, save it again and upload that."
        )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable(
                f"This {self.what} is nested more than {MAX_DEPTH} levels deep; copy its text "
                "into a new one and upload that."
            )
        if attributes:
            attributes = {self.local(key): value for key, value in attributes.items()}
        self.start(self.local(name), attributes)

    def _end(self, name: str) -> None:
        self.depth -= 1
        self.end(self.local(name))

    def local(self, name: str) -> str:
        """Return a name without its prefix; each is looked at once."""
        local = self._local.get(name)
        if local is None:
            local = name.rpartition(":")[2]
            if len(self._local) < 1000:
                self._local[name] = local
        return local

    def start(self, name: str, attributes: dict[str, str]) -> None: ...

    def end(self, name: str) -> None: ...

    def text(self, data: str) -> None: ...

"""All rules over one example: its messages in, findings out."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import regex

from app.datasets.privacy import addresses, names, numbers, passage
from app.datasets.privacy.findings import ORDER, Kind, Span

# A site's pattern that needs longer for one text is given up for this text.
PATTERN_SECONDS = 0.2
_RANK = {kind: rank for rank, kind in enumerate(ORDER)}

# What a site's own model is: texts in, spans out (docs/privacy.md).
Recognizer = Callable[[Sequence[str]], Sequence[Iterable[tuple[int, int, str]]]]


class SitePattern(NamedTuple):
    """A pattern that an administrator added."""

    pattern: str
    kind: Kind


class Scanner:
    """The rules with a site's own patterns, and its model where there is one."""

    def __init__(
        self, patterns: Iterable[SitePattern] = (), recognizer: Recognizer | None = None
    ) -> None:
        self._patterns = [(regex.compile(each.pattern), each.kind) for each in patterns]
        self._recognizer = recognizer
        # Site patterns that took too long somewhere, so that a person can be told.
        self.num_given_up = 0

    def scan(self, texts: Sequence[str]) -> list[list[Span]]:
        """Find what points to people in the texts of one example, which are read as one."""
        whole = "\n".join(texts)
        spans = self._of(whole)
        by_text: list[list[Span]] = []
        offset = 0
        for text in texts:
            end = offset + len(text)
            by_text.append(
                [
                    Span(max(s.start, offset) - offset, min(s.end, end) - offset, s.kind)
                    for s in spans
                    if s.start < end and s.end > offset
                ]
            )
            offset = end + 1
        return by_text

    def _of(self, text: str) -> list[Span]:
        spans = [*numbers.find(text), *addresses.find(text), *self._site_patterns(text)]
        called = names.find(text, passage.language(text), spans)
        for name in called:
            match = numbers.AFTER_NAME.match(text, name.end)
            if match:
                spans.append(Span(match.start(1), match.end(1), Kind.BIRTH_DATE))
        spans += called
        if self._recognizer is not None:
            for start, end, kind in self._recognizer([text])[0]:
                spans.append(Span(start, end, Kind(kind)))
        return _settle(text, spans)

    def _site_patterns(self, text: str) -> list[Span]:
        spans = []
        for pattern, kind in self._patterns:
            try:
                for match in pattern.finditer(text, timeout=PATTERN_SECONDS):
                    if match.end() > match.start():
                        spans.append(Span(match.start(), match.end(), kind))
            except TimeoutError:
                self.num_given_up += 1
        return spans


def _settle(text: str, spans: list[Span]) -> list[Span]:
    """Let the surer kind win where findings overlap, then the longer one."""
    chosen: list[Span] = []
    for span in sorted(spans, key=lambda s: (_RANK[s.kind], s.start - s.end, s.start)):
        if any(s.start < span.end and span.start < s.end for s in chosen):
            continue
        value = text[span.start : span.end]
        start = span.start + len(value) - len(value.lstrip(" \n\t,;"))
        end = span.end - (len(value) - len(value.rstrip(" \n\t,;")))
        if end > start:
            chosen.append(Span(start, end, span.kind))
    return sorted(chosen)

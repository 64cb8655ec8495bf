"""How a backend is asked, so that prompt and answer have the lengths that were meant; and how its stream is read. Pure.

The best Way is /v1/completions with token numbers, and an answer that goes on to its cap: lengths are exact, and no cache has seen the
prompt. A backend that does not know one of these is asked in a plainer Way; WAYS are in the order in which they are tried.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from bestserve.proxy.dialects.dialect import COUNTED, PATHS, UNENDING, Dialect
from bestserve.proxy.dialects.sse import Splitter, data_of

from .runs import Stream
from .script import Call

__all__ = ["WAYS", "Way", "body", "read"]


@dataclass(frozen=True, slots=True)
class Way:
    """One way to ask."""

    name: str
    path: str
    ids: bool  # whether prompts are token numbers
    extras: bool  # whether what only engines know is added: going on after the end, counts in every event
    tokens_per_word: float = 1.0  # of prompts that are texts


WAYS = (
    Way("completions of token numbers", PATHS["completions"], ids=True, extras=True),
    Way("completions of text", PATHS["completions"], ids=False, extras=True),
    Way("chat", PATHS["chat"], ids=False, extras=True),
    Way("completions of text, plain", PATHS["completions"], ids=False, extras=False),
    Way("chat, plain", PATHS["chat"], ids=False, extras=False),
)

_IDS = range(1_000, 30_000)  # within every vocabulary in use, and beyond the control tokens at its begin
_WORDS = (
    *("water", "stone", "light", "river", "house", "green", "table", "north", "paper", "music", "window", "garden", "silver", "train"),
    *("winter", "letter", "bridge", "summer", "island", "market", "forest", "yellow", "dinner", "morning", "engine", "doctor", "mirror"),
    *("camera", "planet", "valley", "copper", "feather", "harbor", "pepper"),
)


def body(way: Way, model: str, call: Call) -> bytes:
    """The request for one call."""
    asked: dict[str, Any] = {"model": model, "max_tokens": call.answer, "temperature": 0, "stream": True}
    asked["stream_options"] = COUNTED if way.extras else {"include_usage": True}
    if way.extras:
        asked |= UNENDING
    prompt = _ids(call) if way.ids else _text(call, way.tokens_per_word)
    asked |= {"messages": [{"role": "user", "content": prompt}]} if way.path == PATHS["chat"] else {"prompt": prompt}
    return orjson.dumps(asked)


def read(speaks: Dialect, sent: float, pieces: Iterable[tuple[float, bytes]]) -> Stream:
    """A stream as it came, (when, bytes), each with the same clock as `sent`. Raises BackendFailure for an error among the events."""
    splitter, counter = Splitter(), _Counter()
    for when, data in pieces:
        for event in splitter.feed(data):
            if (failure := speaks.error_in(event)) is not None:
                raise failure
            counter.see(when, data_of(event))
    return counter.stream(sent)


class _Counter:
    """Tokens by the events of a stream: as each says, else one an event, stretched to what the last one says."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, int]] = []
        self.told = False
        self.usage: dict[str, Any] = {}

    def see(self, when: float, data: bytes) -> None:
        if not data.startswith(b"{"):
            return
        event = orjson.loads(data)
        usage, choices = event.get("usage"), event.get("choices")
        self.usage = usage or self.usage
        if not choices:
            return
        if usage:
            self.told = True
            self._add(when, usage.get("completion_tokens") or 0)
        elif _says(choices[0]):
            self._add(when, self._count() + 1)

    def stream(self, sent: float) -> Stream:
        whole, last = self.usage.get("completion_tokens"), self._count()
        if not self.told and isinstance(whole, int) and last and whole != last:
            self.seen = [(when, round(count * whole / last)) for when, count in self.seen]
        details = self.usage.get("prompt_tokens_details") or {}
        times, counts = zip(*self.seen, strict=True) if self.seen else ((), ())
        return Stream(sent, self.usage.get("prompt_tokens") or 0, details.get("cached_tokens"), tuple(times), tuple(counts))

    def _count(self) -> int:
        return self.seen[-1][1] if self.seen else 0

    def _add(self, when: float, count: int) -> None:
        if count > self._count():
            self.seen.append((when, count))


def _says(choice: dict[str, Any]) -> bool:
    """Whether an event brings text of any sort."""
    delta = choice.get("delta") or {}
    return bool(choice.get("text") or delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning"))


def _ids(call: Call) -> list[int]:
    shared = random.Random(call.family).choices(_IDS, k=call.shared)  # noqa: S311
    return shared + random.Random(call.seed + 1_000_000_007).choices(_IDS, k=call.prompt - call.shared)  # noqa: S311


def _text(call: Call, tokens_per_word: float) -> str:
    """Words; what to do with them comes last, for an answer that goes on as long as it may."""
    n, shared = round(call.prompt / tokens_per_word), round(call.shared / tokens_per_word)
    words = random.Random(call.family).choices(_WORDS, k=shared)  # noqa: S311
    words += random.Random(call.seed + 1_000_000_007).choices(_WORDS, k=max(n - shared, 1))  # noqa: S311
    return " ".join(words)

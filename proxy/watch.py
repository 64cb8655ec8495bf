"""What can be known of an answer by looking at its bytes on their way: when it began, how it ended, what it cost. Pure.

A Watch begins as ABANDONED: whatever is not proven otherwise was abandoned.
"""

import re
from typing import Any

import orjson

from bestserve.policy.facts import Ending, Outcome

from .dialects.sse import Splitter, data_of


class Watch:
    """Sees one attempt."""

    __slots__ = (
        "_begun",
        "_first_at",
        "_looks",
        "_splitter",
        "_usage",
        "_usage_asked",
        "ending",
        "fence",
        "finish_reason",
        "json",
        "kept",
        "reason",
        "status",
        "tokens",
    )

    def __init__(self, begun: float, *, usage_asked: bool, looks: bool = False, keeps: bool = False) -> None:
        self._begun = begun
        self._usage_asked = usage_asked
        self._looks = LOOKS if looks else 0
        self.fence: bool | None = False if looks else None  # whether a fence was seen; None where nobody looks
        self.json: bool | None = False if looks else None  # whether the answer begins like JSON
        self.kept = bytearray() if keeps else None  # the answer, for a judge; None where nobody asked for it
        self._splitter = Splitter()
        self._first_at: float | None = None
        self._usage: dict[str, Any] = {}
        self.ending = Ending.ABANDONED
        self.status = 0
        self.finish_reason: str | None = None
        self.reason: str | None = None
        self.tokens = 0  # events so far, of which each is about a token

    def pass_on(self, data: bytes, now: float) -> bytes:
        """Bytes of a stream in, what the client gets of them out: the same, less a usage chunk that it did not ask for.

        A cut event is held back until it is whole. Raises ValueError when it never ends, and when it is an error that comes after the
        answer has begun.
        """
        if self._first_at is None and data:
            self._first_at = now
        if self.fence is False or self._looks:
            self._look(data)
        if self.kept is not None:
            self._keep(data)
        if self._splitter.is_between and data.endswith(b"\n\n") and not _is_remarkable(data):
            self.tokens += data.count(b"\n\n")
            return data
        return b"".join([event for event in self._splitter.feed(data) if self._passes(event)])

    def flush(self) -> bytes:
        """What was held back when the stream ended."""
        return self._splitter.flush()

    def whole(self, body: bytes) -> None:
        """Look at an answer that came at once."""
        if self.kept is not None:
            self._keep(body)
        if self.fence is False:
            self._look(body[:LOOKED_AT])
        try:
            answer = orjson.loads(body)
            self._note(answer)
        except (ValueError, AttributeError, TypeError):
            return

    def outcome(self, now: float, *, our_cap: int | None) -> Outcome:
        """What there is to say at the end. `our_cap` is the cap that we set, None when the client's own was lower or there was none."""
        return Outcome(
            ending=self.ending,
            status=self.status,
            ttft_s=None if self._first_at is None else self._first_at - self._begun,
            total_s=now - self._begun,
            prompt_tokens=_count(self._usage.get("prompt_tokens")),
            completion_tokens=_count(self._usage.get("completion_tokens")),
            cached_tokens=_cached(self._usage.get("prompt_tokens_details")),
            finish_reason=self.finish_reason,
            cut=our_cap is not None and self.finish_reason == "length",
            reason=self.reason,
        )

    def _look(self, data: bytes) -> None:
        """For what an answer shows of its kind (`policy.signals`): a fence in one piece, and the first sign of the first text."""
        self.fence = self.fence or b"```" in data
        if self._looks:
            self._looks -= 1
            begin = _BEGINS.search(data)
            if begin is not None:
                self._looks, self.json = 0, begin[1] in b"{["

    def _keep(self, data: bytes) -> None:
        """Up to a bit more than MOST_KEPT."""
        if self.kept is not None and len(self.kept) <= MOST_KEPT:
            self.kept += data

    def _passes(self, event: bytes) -> bool:
        self.tokens += 1
        if not _is_remarkable(event):
            return True
        try:
            chunk = orjson.loads(data_of(event))
            self._note(chunk)
        except (ValueError, AttributeError, TypeError):
            return True
        if self.tokens > 1 and isinstance(chunk.get("error"), dict):
            raise ValueError("error_event")
        return self._usage_asked or not (chunk.get("usage") and not chunk.get("choices"))

    def _note(self, answer: dict[str, Any]) -> None:
        for choice in answer.get("choices") or ():
            reason = choice.get("finish_reason")
            self.finish_reason = _worse(self.finish_reason, reason if isinstance(reason, str) else None)
        if isinstance(answer.get("usage"), dict):
            self._usage = answer["usage"]


MOST_KEPT = 262_144
"""Bytes of an answer that are kept until it ends, where a judge wants it. One that is longer is not judged."""

LOOKS = 8
"""Pieces of a stream in which its first text is looked for."""

LOOKED_AT = 65_536
"""Bytes of an answer that came at once, that are looked at."""

_BEGINS = re.compile(rb'"(?:content|text)"\s*:\s*"(?:\\[nrt]|\s)*([^"\\\s])')

_USAGE = re.compile(rb'usage"\s*:\s*\{')
_FINISH = re.compile(rb'finish_reason"\s*:\s*"')
_ERROR = re.compile(rb'error"\s*:\s*\{')


def _is_remarkable(data: bytes) -> bool:
    """Whether an event is worth a look. None of these can stand inside a JSON string, where quotes are escaped. (Each by itself begins
    with letters that are rare in a chunk: together, or with the quote before them, they take twice as long to search for.)"""
    return _USAGE.search(data) is not None or _FINISH.search(data) is not None or _ERROR.search(data) is not None or b"\r" in data


def _worse(one: str | None, other: str | None) -> str | None:
    """Of the finish reasons of several choices, `length` is told, for one cut answer is a cut answer."""
    return one if one == "length" or other is None else other


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _cached(details: object) -> int | None:
    return _count(details.get("cached_tokens")) if isinstance(details, dict) else None

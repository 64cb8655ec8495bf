"""How an emulated SGLang writes: the chunks and bodies of its three ways to answer. Pure.

A Writer knows a request's whole answers and turns counts of tokens into bytes: `said` the chunks of some tokens of a choice, `closing`
what ends the stream, `whole` the body of an answer that is not streamed. As captured from SGLang 0.5.23, extras included.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from zlib import crc32

import numpy as np
import orjson
from numpy.typing import NDArray

from .emulator_ask import Wanted
from .emulator_text import Answer, embed

__all__ = ["Chat", "Completions", "Embeddings", "Responses", "Writer"]

DIMENSIONS = 1024
"""Length of an embedding, when the request does not say."""

DONE = b"data: [DONE]\n\n"


class Writer(Protocol):
    """The bytes of one request's answers."""

    def said(self, choice: int, start: int, stop: int) -> bytes:
        """The chunks of a choice's tokens from `start` to before `stop`."""

    def closing(self, made: Sequence[int], *, aborted: bool) -> bytes:
        """What comes after the last token of all choices, when each has said `made` tokens."""

    def whole(self, made: Sequence[int], *, aborted: bool) -> bytes:
        """The body of an answer that is not streamed."""


class _Base:
    """What the writers share: who asked, and what every chunk begins with."""

    object = ""

    def __init__(self, wanted: Wanted, answers: Sequence[Answer], rid: str, created: int) -> None:
        self.wanted = wanted
        self.answers = answers
        self.rid = rid
        self.created = created

    def head(self, kind: str) -> dict[str, Any]:
        """The first fields of every body."""
        return {"id": self.rid, "object": kind, "created": self.created, "model": self.wanted.model}

    def usage(self, made: Sequence[int]) -> dict[str, Any]:
        """Tokens read and said."""
        return {
            "prompt_tokens": self.wanted.prompt_tokens,
            "total_tokens": self.wanted.prompt_tokens + sum(made),
            "completion_tokens": sum(made),
            "prompt_tokens_details": None,
            "reasoning_tokens": 0,
            "completion_tokens_details": None,
        }

    def ending(self, choice: int, *, aborted: bool) -> dict[str, Any]:
        """Why a choice ended."""
        answer = self.answers[choice]
        return {"finish_reason": "abort" if aborted else answer.finish, "matched_stop": None if aborted else answer.matched}

    def metadata(self, made: Sequence[int]) -> dict[str, Any]:
        """Which weights said it. The list is SGLang's; OpenAI's type has texts only, and a strict client refuses it."""
        versions = {"weight_versions": [{"version": "default", "start": 0, "end": made[0]}]} if self.wanted.exact else {}
        return {"weight_version": "default", **versions}


class Chat(_Base):
    """/v1/chat/completions."""

    def __init__(self, wanted: Wanted, answers: Sequence[Answer], rid: str, created: int) -> None:
        super().__init__(wanted, answers, rid, created)
        start = b"data: " + orjson.dumps(self.head("chat.completion.chunk"))[:-1] + b',"choices":[{"index":'
        self._before = [start + str(choice).encode() + b',"delta":{"reasoning_content":null' for choice in range(len(answers))]
        self._calls = [f"call_{crc32(rid.encode()):08x}{choice:016x}" for choice in range(len(answers))]
        self._made = [0] * len(answers)
        self._open: set[int] = set()

    def said(self, choice: int, start: int, stop: int) -> bytes:
        """A chunk a token, after one that says who speaks."""
        return self._role(choice) + b"".join(self._token(choice, at) for at in range(start, stop))

    def closing(self, made: Sequence[int], *, aborted: bool) -> bytes:
        """A chunk with the reason for each choice, the usage if it was asked for, and the end."""
        chunks = [self._role(choice) + self._finish(choice, aborted=aborted) for choice in range(len(made))]
        if self.wanted.include_usage:
            chunks.append(_event({**self.head("chat.completion.chunk"), "choices": [], "usage": self.usage(made)}))
        return b"".join((*chunks, DONE))

    def whole(self, made: Sequence[int], *, aborted: bool) -> bytes:
        """One body with every choice."""
        choices = [self._choice(choice, n, aborted=aborted) for choice, n in enumerate(made)]
        body = {**self.head("chat.completion"), "choices": choices, "usage": self.usage(made), "metadata": self.metadata(made)}
        return orjson.dumps(body)

    def _role(self, choice: int) -> bytes:
        if choice in self._open:
            return b""
        self._open.add(choice)
        return self._before[choice] + b',"role":"assistant","content":""},"logprobs":null,"finish_reason":null,"matched_stop":null}]}\n\n'

    def _token(self, choice: int, at: int) -> bytes:
        answer = self.answers[choice]
        piece = answer.pieces[at]
        delta = b',"content":' + orjson.dumps(piece) if answer.tool is None else b',"tool_calls":' + self._call(choice, at)
        chances = b"null" if self.wanted.logprobs is None else orjson.dumps({"content": [_chances(piece, self.wanted.logprobs)]})
        tail = b'},"logprobs":' + chances + b',"finish_reason":null,"matched_stop":null}]'
        self._made[choice] = at + 1
        usage = b',"usage":' + orjson.dumps(self.usage(self._made)) if self.wanted.continuous_usage else b""
        return self._before[choice] + delta + tail + usage + b"}\n\n"

    def _call(self, choice: int, at: int) -> bytes:
        """A piece of a tool call: its name, then its arguments bit by bit."""
        answer = self.answers[choice]
        function = {"name": answer.tool if at == 0 else None, "arguments": answer.pieces[at]}
        return orjson.dumps([{"id": self._calls[choice] if at == 0 else None, "index": 0, "type": "function", "function": function}])

    def _finish(self, choice: int, *, aborted: bool) -> bytes:
        ending = orjson.dumps({"logprobs": None, **self.ending(choice, aborted=aborted)})
        return self._before[choice] + b"}," + ending[1:] + b"]}\n\n"

    def _choice(self, choice: int, made: int, *, aborted: bool) -> dict[str, Any]:
        answer, alternatives = self.answers[choice], self.wanted.logprobs
        message: dict[str, Any] = {"role": "assistant", "content": answer.text(made), "reasoning_content": None}
        if answer.tool is not None:
            function = {"name": answer.tool, "arguments": answer.text(made)}
            call = {"id": self._calls[choice], "index": 0, "type": "function", "function": function}
            message.update(content=None, tool_calls=[call])
        chances = None if alternatives is None else {"content": [_chances(piece, alternatives) for piece in answer.pieces[:made]]}
        return {"index": choice, "message": message, "logprobs": chances, **self.ending(choice, aborted=aborted)}


class Completions(_Base):
    """/v1/completions."""

    def said(self, choice: int, start: int, stop: int) -> bytes:
        """A chunk a token; the last one says why it is the last."""
        answer = self.answers[choice]
        last = len(answer.pieces)
        return b"".join(
            self._chunk(choice, answer.pieces[at], at, self.ending(choice, aborted=False) if at + 1 == last else _GOES_ON)
            for at in range(start, stop)
        )

    def closing(self, made: Sequence[int], *, aborted: bool) -> bytes:
        """Reasons that no token could bring, the usage if it was asked for, and the end."""
        chunks = [
            self._chunk(choice, "", None, self.ending(choice, aborted=aborted))
            for choice, n in enumerate(made)
            if n == 0 or n < len(self.answers[choice].pieces)
        ]
        if self.wanted.include_usage:
            usage = {key: value for key, value in self.usage(made).items() if value is not None}
            chunks.append(_event({**self.head("text_completion"), "choices": [], "usage": usage}))
        return b"".join((*chunks, DONE))

    def whole(self, made: Sequence[int], *, aborted: bool) -> bytes:
        """One body with every choice."""
        choices = [
            {
                "index": choice,
                "text": self.answers[choice].text(n),
                "logprobs": self._chances(self.answers[choice].pieces[:n]),
                **self.ending(choice, aborted=aborted),
            }
            for choice, n in enumerate(made)
        ]
        body = {**self.head("text_completion"), "choices": choices, "usage": self.usage(made), "metadata": self.metadata(made)}
        return orjson.dumps(body)

    def _chunk(self, choice: int, text: str, at: int | None, ending: Mapping[str, Any]) -> bytes:
        chances = None if at is None else self._chances((text,))
        entry = {"index": choice, "text": text, "logprobs": chances, **ending}
        return _event({**self.head("text_completion"), "choices": [entry], "usage": None})

    def _chances(self, pieces: Sequence[str]) -> dict[str, Any] | None:
        if self.wanted.logprobs is None:
            return None
        found = [_chances(piece, self.wanted.logprobs) for piece in pieces]
        offsets = [sum(map(len, pieces[:at])) for at in range(len(pieces))]
        return {
            "text_offset": offsets,
            "token_logprobs": [one["logprob"] for one in found],
            "tokens": list(pieces),
            "top_logprobs": [{other["token"]: other["logprob"] for other in one["top_logprobs"]} for one in found],
        }


class Responses(_Base):
    """/v1/responses: one message, its events numbered."""

    def __init__(self, wanted: Wanted, answers: Sequence[Answer], rid: str, created: int) -> None:
        super().__init__(wanted, answers, rid, created)
        self._item = "msg_" + rid
        self._number = 0

    def said(self, choice: int, start: int, stop: int) -> bytes:
        """A delta a token, after the events that open response, item and part."""
        events = self._opening() if start == 0 else []
        for piece in self.answers[choice].pieces[start:stop]:
            events.append(self._event("output_text.delta", **self._at, delta=piece, logprobs=[]))
        return b"".join(events)

    def closing(self, made: Sequence[int], *, aborted: bool) -> bytes:
        """The events that close part, item and response."""
        events = self._opening() if made[0] == 0 else []
        text, body = self.answers[0].text(made[0]), self._body(made, aborted=aborted)
        events += [
            self._event("output_text.done", **self._at, text=text, logprobs=[]),
            self._event("content_part.done", **self._at, part=_part(text)),
            self._event("output_item.done", output_index=0, item=body["output"][0]),
            self._event("completed" if body["status"] == "completed" else "incomplete", response=body),
        ]
        return b"".join(events)

    def whole(self, made: Sequence[int], *, aborted: bool) -> bytes:
        """The response with its one message."""
        return orjson.dumps(self._body(made, aborted=aborted))

    @property
    def _at(self) -> dict[str, Any]:
        return {"item_id": self._item, "output_index": 0, "content_index": 0}

    def _opening(self) -> list[bytes]:
        empty = self._body(None, aborted=False)
        return [
            self._event("created", response=empty),
            self._event("in_progress", response=empty),
            self._event("output_item.added", output_index=0, item=self._message("in_progress", [])),
            self._event("content_part.added", **self._at, part=_part("")),
        ]

    def _event(self, kind: str, **fields: Any) -> bytes:
        kind, number = f"response.{kind}", self._number
        self._number += 1
        return b"event: " + kind.encode() + b"\n" + _event({"type": kind, "sequence_number": number, **fields})

    def _message(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self._item, "type": "message", "role": "assistant", "status": status, "content": content}

    def _body(self, made: Sequence[int] | None, *, aborted: bool) -> dict[str, Any]:
        """The response as it stands: `made` is None before it has said anything."""
        cut = aborted or self.answers[0].finish == "length"
        status = "in_progress" if made is None else "incomplete" if cut else "completed"
        said = [] if made is None else [self._message(status, [_part(self.answers[0].text(made[0]))])]
        return {
            "id": self.rid,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": None,
            "max_output_tokens": self.wanted.max_tokens,
            "model": self.wanted.model,
            "output": said,
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "metadata": {},
            "usage": None if made is None else self._usage(made),
        }

    def _usage(self, made: Sequence[int]) -> dict[str, Any]:
        return {
            "input_tokens": self.wanted.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": sum(made),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.wanted.prompt_tokens + sum(made),
        }


class Embeddings:
    """/v1/embeddings: written without a token being said."""

    def __init__(self, wanted: Wanted, seed: int) -> None:
        self.wanted, self.seed = wanted, seed

    def said(self, choice: int, start: int, stop: int) -> bytes:
        """Nothing: it is never streamed."""
        return b""

    def closing(self, made: Sequence[int], *, aborted: bool) -> bytes:
        """Nothing: it is never streamed."""
        return b""

    def whole(self, made: Sequence[int], *, aborted: bool) -> bytes:
        """A list of unit vectors, as numbers; or, where exact, as their bytes in base64 when so asked.

        OpenAI's client asks for base64 unasked and reads either; a strict one refuses base64 before it has decoded it.
        """
        vectors = [embed(text, self.wanted.dimensions or DIMENSIONS, self.seed) for text in self.wanted.texts]
        data = [{"object": "embedding", "embedding": self._written(vector), "index": at} for at, vector in enumerate(vectors)]
        usage = {"prompt_tokens": self.wanted.prompt_tokens, "total_tokens": self.wanted.prompt_tokens}
        return orjson.dumps({"object": "list", "data": data, "model": self.wanted.model, "usage": usage})

    def _written(self, vector: NDArray[np.float32]) -> str | list[float]:
        if self.wanted.base64 and self.wanted.exact:
            return b64encode(vector.astype("<f4").tobytes()).decode()
        numbers: list[float] = vector.astype(float).tolist()
        return numbers


_GOES_ON = {"finish_reason": None, "matched_stop": None}


def _event(body: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


_OTHERS = (
    " the",
    " a",
    " it",
    " to",
    " of",
    " in",
    " and",
    " is",
    " that",
    " for",
    " on",
    " as",
    " with",
    " at",
    " by",
    " or",
    " be",
    " we",
)


def _chances(piece: str, alternatives: int) -> dict[str, Any]:
    """A token with a made-up probability, and some that were less likely."""
    first = -0.01 - (crc32(piece.encode()) % 1000) / 500
    others = [other for other in _OTHERS if other != piece][: max(alternatives - 1, 0)]
    tokens = [(piece, first), *((other, first - 0.5 * rank) for rank, other in enumerate(others, 1))]
    entries = [{"token": token, "bytes": list(token.encode()), "logprob": chance} for token, chance in tokens]
    return {**entries[0], "top_logprobs": entries[:alternatives]}

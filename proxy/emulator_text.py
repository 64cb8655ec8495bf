"""What an emulated answer says: plausible filler of a drawn length, a document for a schema, a vector. Pure.

An answer is decided whole before its first token is said, from a hash of the text that asked for it, the seed, and the number of the
choice: the same question gets the same answer. The hash is of the last thing the user said, not of what stands before it, so that an
instruction that somebody adds in front does not change how long the answer would have been.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import exp
from statistics import NormalDist
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

__all__ = ["MEDIAN", "SIGMA", "Answer", "Tool", "count", "document", "draw", "embed", "ids", "pieces", "write"]

MEDIAN = 180.0
"""Tokens of half of all answers, or fewer."""

SIGMA = 0.7
"""Standard deviation of log(tokens)."""

EOS = 2
"""The token that `matched_stop` names when an answer ended by itself."""

_PIECE = re.compile(r" ?[A-Za-z']{1,10}| ?\d{1,3}| ?[^\sA-Za-z\d]|\s", re.DOTALL)

_FIRST = "This is an emulated answer; no model wrote it."

_SENTENCES = (
    "The short version is that it depends on what you already have.",
    "It helps to begin with the part that changes least.",
    "Most of the work lies in asking the right question first.",
    "There are two common ways to do this, and both are fine.",
    "The first is simpler, and it is usually fast enough.",
    "The second costs more up front, but it scales further.",
    "A small example makes the difference clear.",
    "Suppose that three of the five steps are already done.",
    "Then the other two can be taken in any order.",
    "You can check the result by hand before you go on.",
    "If the numbers do not agree, look at the units.",
    "Keep a note of every choice, and of the reason for it.",
    "That way somebody else can follow what was decided.",
    "In practice, a few edge cases deserve attention.",
    "An empty input should give an empty output.",
    "A very large input should fail early, with a clear message.",
    "It is tempting to make it faster before it is right.",
    "Measure once more after each change, and keep what helps.",
    "On a quiet day the gain is small; under load it is not.",
    "None of this needs special tools.",
    "A plain list, kept in order, goes a long way.",
    "When in doubt, choose the option that is easy to undo.",
    "To sum up, start small, measure, and then grow.",
    "I hope that this gives you a place to begin.",
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the answer has to call."""

    name: str
    parameters: Mapping[str, Any]  # a JSON schema


@dataclass(frozen=True, slots=True)
class Answer:
    """One choice, whole. With a tool, the first piece stands for its name and the others are its arguments."""

    pieces: tuple[str, ...]  # one a token
    finish: str  # "stop", "length" or "tool_calls"
    matched: int | str | None  # the stop that ended it: a token, a text, or none
    tool: str | None = None

    def text(self, made: int | None = None) -> str:
        """What its first `made` tokens say."""
        return "".join(self.pieces[:made])


def pieces(text: str) -> list[str]:
    """Cut a text into word pieces, one a token. Joined, they are the text."""
    return _PIECE.findall(text)


def count(text: str) -> int:
    """Tokens that a prompt counts for: its UTF-8 bytes by four."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // 4)


def ids(text: str) -> list[int]:
    """Numbers for the tokens that `count` counts."""
    raw = text.encode("utf-8", "surrogatepass")
    return [int.from_bytes(raw[at : at + 4], "big") % 151_643 for at in range(0, len(raw), 4)]


def draw(text: str, seed: int, choice: int) -> tuple[int, int]:
    """Tokens of the answer to a text, log-normal, and a number that picks its words."""
    digest = blake2b(f"{seed}/{choice}/{text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
    chance = (int.from_bytes(digest[:8], "big") + 0.5) / 2**64
    chance = min(max(chance, 1e-9), 1 - 1e-9)
    return max(1, round(MEDIAN * exp(SIGMA * NormalDist().inv_cdf(chance)))), int.from_bytes(digest[8:], "big")


def write(
    text: str,
    *,
    seed: int,
    choice: int,
    ceiling: int,
    least: int = 0,
    endless: bool = False,
    stop: Sequence[str] = (),
    schema: Mapping[str, Any] | None = None,
    tool: Tool | None = None,
) -> Answer:
    """The whole answer to `text`: at most `ceiling` tokens, at least `least` unless a stop ends it, `endless` up to the ceiling."""
    if tool is not None:
        arguments = pieces(orjson.dumps(document(tool.parameters)).decode())
        return _capped(("", *arguments), ceiling, "tool_calls", None, tool.name)
    if schema is not None:
        return _capped(tuple(pieces(orjson.dumps(document(schema)).decode())), ceiling, "stop", EOS)
    length, words = draw(text, seed, choice)
    length = ceiling + 1 if endless else max(length, least)
    said = _filler(words, min(length, ceiling), whole=length <= ceiling)
    return _stopped(said, stop) or _capped(tuple(said), ceiling, "length" if length > ceiling else "stop", EOS)


def _capped(said: tuple[str, ...], ceiling: int, finish: str, matched: int | None, tool: str | None = None) -> Answer:
    cut = len(said) > ceiling or finish == "length"
    return Answer(said[:ceiling], "length" if cut else finish, None if cut else matched, tool)


def _stopped(said: Sequence[str], stop: Sequence[str]) -> Answer | None:
    """The answer up to the earliest stop, if there is one; the stop itself is not said."""
    text = "".join(said)
    found = [(at, one) for one in stop if one and (at := text.find(one)) >= 0]
    if not found:
        return None
    at, matched = min(found)
    return Answer(tuple(_prefix(said, at)), "stop", matched)


def _prefix(said: Sequence[str], length: int) -> list[str]:
    """The pieces of the first `length` characters; the last may be a part of one."""
    kept: list[str] = []
    for piece in said:
        if length <= 0:
            break
        kept.append(piece[:length])
        length -= len(piece)
    return kept


_PIECES_FIRST = tuple(pieces(_FIRST))
_PIECES = tuple(tuple(pieces(" " + sentence)) for sentence in _SENTENCES)


def _filler(words: int, length: int, *, whole: bool) -> list[str]:
    """So many tokens of sentences; if it is `whole`, the last one is a full stop."""
    said = list(_PIECES_FIRST)
    while len(said) < length:
        words = (words * 6364136223846793005 + 1442695040888963407) % 2**64
        said.extend(_PIECES[(words >> 33) % len(_PIECES)])
    del said[length:]
    if whole and said:
        said[-1] = "."
    return said


_FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "email": "emulated@example.com",
    "uri": "https://example.com/emulated",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
}


def document(schema: Mapping[str, Any]) -> Any:
    """A small value that satisfies the basics of a JSON schema; for an empty one, an object that says it is emulated."""
    return _value(schema, schema, 0) if schema else {"emulated": True, "answer": _FIRST}


def _value(schema: Any, root: Mapping[str, Any], depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > 16:
        return None
    schema = _resolved(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return _value(_not_null(schema[key]), root, depth + 1)
    return _of_type(_type(schema), schema, root, depth)


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that a `$ref` within the document names, and the parts of `allOf` as one."""
    for _ in range(16):
        if "$ref" not in schema:
            break
        found: Any = root
        for key in str(schema["$ref"]).removeprefix("#").strip("/").split("/"):
            found = found.get(key, {}) if isinstance(found, Mapping) and key else found
        schema = found if isinstance(found, Mapping) else {}
    merged = dict(schema)
    for part in schema.get("allOf", ()):
        found = _resolved(part, root)
        merged["properties"] = {**merged.get("properties", {}), **found.get("properties", {})}
        merged = {**found, **merged}
    return merged


def _not_null(options: Sequence[Any]) -> Any:
    return next((one for one in options if isinstance(one, Mapping) and one.get("type") != "null"), options[0])


def _type(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type", "object" if "properties" in schema else "array" if "items" in schema else "string")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    return str(kind)


def _of_type(kind: str, schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    if kind == "object":
        return _object(schema, root, depth)
    if kind == "array":
        n = max(int(schema.get("minItems", 0)), 1 if depth < 4 and schema.get("maxItems") != 0 else 0)
        items = schema.get("prefixItems", ())
        return [_value(items[at] if at < len(items) else schema.get("items", {}), root, depth + 1) for at in range(n)]
    if kind in {"number", "integer"}:
        return _number(schema, kind)
    if kind == "boolean":
        return True
    return _string(schema) if kind == "string" else None


def _object(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Every property near the top; deeper, only those that must be."""
    known = schema.get("properties", {})
    required = schema.get("required", ())
    names = [*(known if depth < 4 else (name for name in known if name in required)), *(name for name in required if name not in known)]
    return {name: _value(known.get(name, {}), root, depth + 1) for name in names}


def _string(schema: Mapping[str, Any]) -> str:
    text = _FORMATS.get(str(schema.get("format")), "emulated")
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    return text.ljust(least, "x")[: None if most is None else int(most)]


def _number(schema: Mapping[str, Any], kind: str) -> float:
    step = schema.get("multipleOf") or 1
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    value = step if low is None else -(-low // step) * step
    if low is not None and "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        value += step
    if high is not None and (value > high or value == schema.get("exclusiveMaximum")):
        value = high - step if "exclusiveMaximum" in schema and kind == "integer" else high if low is None else (low + high) / 2
    return int(value) if kind == "integer" else value


def embed(text: str, dimensions: int, seed: int) -> NDArray[np.float32]:
    """A unit vector for a text. Texts that are alike have vectors that are not."""
    digest = blake2b(f"{seed}/{text}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    vector = np.random.default_rng(int.from_bytes(digest, "big")).standard_normal(dimensions)  # (D,)
    return (vector / np.linalg.norm(vector)).astype(np.float32)

"""OpenAI's wire in front: which texts of a request its task is told from. Windows of them, never the whole.

A message stays the bytes that the client wrote. Of a text in it, some bytes at its beginning and at its end are decoded, whatever its
length; cut escapes and characters at the cuts are dropped. Nothing raises: what cannot be read is not there.
"""

import json
import re

import msgspec
import orjson

from bestserve.policy.features import BEFORE, HEAD, TAIL, Prompt

from .openai import Fields, Parsed

Raw = msgspec.Raw

BACK = 200
"""Messages that are looked through from the end for the user's last two."""

_WHOLE = 8 * (HEAD + TAIL)  # bytes of a message up to which it is decoded whole
_EDGE = 256  # bytes at a long message's ends in which its other fields are expected
_ROLE = re.compile(rb'"role"\s*:\s*"(\w+)"')
_CONTENT = re.compile(rb'"content"\s*:\s*([^\s])')
_REST = re.compile(rb'"(?:\s*,\s*"\w+"\s*:\s*(?:"(?:[^"\\]|\\.)*"|null|\[\]))*\s*\}\s*$')
_CUT = re.compile(rb"\\u[0-9a-fA-F]{0,3}$|\\u[dD][89abAB][0-9a-fA-F]{2}$")

_fields = msgspec.json.Decoder(Fields)
_parts = msgspec.json.Decoder(list[dict[str, Raw]])


def prompt_of(parsed: Parsed) -> Prompt | None:
    """What the task is told from; None where there is no text to be read: images, tokens, nothing."""
    if parsed.messages is None:
        return _of(window(bytes(parsed.fields.get("prompt", b"")))) if parsed.endpoint == "completions" else None
    last: tuple[str, int] | None = None
    before = ""
    for row in parsed.messages[: -BACK - 1 : -1]:
        if _role(row) == b"user":
            said = _said(row)
            if last is not None:
                before = "" if said is None else said[0][:BEFORE]
                break
            last = said
            if said is None:
                return None
    first = parsed.messages[0]
    system = _said(first) if _role(first) in (b"system", b"developer") else None
    return _of(last, before, "" if system is None else system[0][:BEFORE])


def _of(said: tuple[str, int] | None, before: str = "", system: str = "") -> Prompt | None:
    return None if said is None or not said[0].strip() else Prompt(said[0], said[1], before, system)


def _role(row: Raw) -> bytes:
    """Whose a message is, from its edges."""
    view = memoryview(row)
    found = _ROLE.search(view[:_EDGE]) or _ROLE.search(view[-_EDGE:])
    return found[1] if found else b""


def _said(row: Raw) -> tuple[str, int] | None:
    """The window of a message's text, and the text's length."""
    view = memoryview(row)
    begin = _CONTENT.search(view[:_EDGE])
    if len(view) > _WHOLE and begin is not None and begin[1] == b'"':
        end = _REST.search(view[-_EDGE:])
        return window(view[begin.start(1) : len(view) - _EDGE + end.start() + 1] if end else view[begin.start(1) :])
    try:
        content = bytes(_fields.decode(row).get("content", b""))
        return window(content) if content.startswith(b'"') else _of_parts(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _of_parts(content: bytes) -> tuple[str, int] | None:
    """Of a content that is a list: the beginning of its first text, and the end of its last."""
    if not content.startswith(b"["):
        return None
    try:
        found = [bytes(part["text"]) for part in _parts.decode(content) if "text" in part]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    texts = [text for text in found if text.startswith(b'"') and len(text) > 2]
    if len(texts) < 2:
        return window(texts[0]) if texts else None
    first, last = window(texts[0]), window(texts[-1])
    if first is None or last is None:
        return first or last
    return Prompt.of(first[0] + "\n" + last[0]).text, sum(map(len, texts))


def window(text: bytes | memoryview) -> tuple[str, int] | None:
    """The beginning and the end of a JSON text, its quotes included, and about how many characters it has. None for what is no text."""
    if len(text) < 2 or bytes(text[:1]) != b'"':
        return None
    if len(text) <= _WHOLE:
        whole = _read(bytes(text[1:-1]))
        return Prompt.of(whole).text, len(whole)
    head = _read(_CUT.sub(b"", _even(bytes(text[1 : 1 + 4 * HEAD]))))
    tail = _read(_begun(bytes(text[-1 - 4 * TAIL - 64 : -1])))
    size = len(text) * len(head) // (4 * HEAD)
    return head[:HEAD] + "\n" + tail[-TAIL:], size


def _even(cut: bytes) -> bytes:
    """Without a backslash at its end that belongs to what was cut off."""
    return cut[:-1] if (len(cut) - len(cut.rstrip(b"\\"))) % 2 else cut


def _begun(cut: bytes) -> bytes:
    """Without what is left at its beginning of an escape: its first 64 bytes tell where one begins."""
    edge, kept = cut[:64], cut[64:]
    return kept[1:] if (len(edge) - len(edge.rstrip(b"\\"))) % 2 else kept


def _read(inside: bytes) -> str:
    """The inside of a JSON text."""
    plain = inside.decode("utf-8", "ignore")
    try:
        return str(orjson.loads('"' + plain + '"'))
    except (ValueError, UnicodeEncodeError):
        pass
    try:
        return str(json.loads('"' + plain + '"', strict=False))  # takes lone surrogates
    except ValueError:
        return plain

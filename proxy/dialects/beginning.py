"""OpenAI's wire in front: the parts of a prompt in the order in which a chat template writes them, as the client wrote them."""

import re
from collections.abc import Iterator

from bestserve.policy.prefixes import FEW, Piece

from .openai import Parsed, Raw

_ROLE = re.compile(rb'"role"\s*:\s*"(\w+)"')
_USUAL = b'{"role":"'
_EDGE = 256  # bytes at a message's ends in which its role is expected


def pieces(parsed: Parsed) -> Iterator[Piece]:
    """The system's words, the tools, the conversation; or the one prompt of a completion. Several prompts, or tokens, are none."""
    rows = parsed.messages
    if rows is None:
        prompt = memoryview(parsed.fields.get("prompt", b""))
        if bytes(prompt[:1]) == b'"':
            yield prompt[1:-1], False, True, 0
        return
    tools, late = parsed.fields.get("tools"), int(_role(rows[0]) in (b"system", b"developer"))
    cut, skipped = max(len(rows) - FEW, FEW), 0
    for i, row in enumerate(rows if cut == FEW else [*rows[:FEW], *rows[cut:]]):
        if i == late and tools is not None:
            yield memoryview(tools), False, False, 0
        if i == FEW:
            skipped = sum(map(len, rows[FEW:cut]))
        role = _role(row)
        yield memoryview(row), role == b"assistant", role == b"user", skipped if i == FEW else 0
    if len(rows) == late and tools is not None:
        yield memoryview(tools), False, False, 0


def _role(row: Raw) -> bytes:
    """Whose a message is, from its edges."""
    view = memoryview(row)
    head = bytes(view[:24])
    if head.startswith(_USUAL):
        return head[9 : head.find(b'"', 9)]
    found = _ROLE.search(view[:_EDGE]) or _ROLE.search(view[-_EDGE:])
    return found[1] if found is not None else b""

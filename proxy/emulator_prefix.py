"""Which prompts an emulated engine remembers: chained hashes of blocks, the least lately seen forgotten first. Pure."""

from collections import OrderedDict
from hashlib import blake2b

__all__ = ["BLOCK", "Prefixes"]

BLOCK = 16
"""Tokens that are remembered or forgotten together."""

_BYTES = 4 * BLOCK  # a token is four bytes here: of a text's UTF-8, or of its number


class Prefixes:
    """The beginnings of prompts that were read, up to so many tokens of them."""

    def __init__(self, tokens: int) -> None:
        self._most = max(tokens // BLOCK, 1)
        self._blocks: OrderedDict[bytes, None] = OrderedDict()

    def read(self, prompt: bytes) -> int:
        """Tokens at the beginning of a prompt that are remembered; from now on, all of it is. The last token never counts."""
        digest, cached, known = b"", 0, True
        for at in range(0, len(prompt) - _BYTES + 1, _BYTES):
            digest = blake2b(digest + prompt[at : at + _BYTES], digest_size=16).digest()
            known = known and digest in self._blocks
            cached += BLOCK if known else 0
            self._blocks[digest] = None
            self._blocks.move_to_end(digest)
        while len(self._blocks) > self._most:
            self._blocks.popitem(last=False)
        return min(cached, max(len(prompt) // 4 - 1, 0))

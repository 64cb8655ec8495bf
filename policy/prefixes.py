"""What backends are believed to remember of prompts: which beginnings each of them has read lately.

Facts
    An engine keeps the keys and values of prompts that it has read, and of the answers that it wrote, until it needs the room: the least
    lately used go first. A prompt that begins alike is read from there on.

Plan
    A prompt is a row of marks, numbers that stand for everything up to a place in it: one at the end of each message, and more within
    long ones, ever farther apart. What was sent to a backend leaves its marks there; the farthest mark of a new prompt that is known
    there says how much of it need not be read again. An answer that follows a known mark was written there, and is remembered too.
    What a backend says that it remembered, where it says so, corrects what is expected of it.

    A mark is Python's own hash of bytes, keyed anew in every process. Marks are in memory alone: they are never written down.

What is not handled
    What other processes have sent, and engines that forget by other rules. Both cost a wrong guess, of which the pace of first tokens
    and the correction learn.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .facts import Backend

__all__ = ["NOTHING", "Piece", "Prefixes", "Prompt", "prompt_of"]

BLOCK = 512
"""Bytes between the first marks within a message; farther in, an eighth of all that stands before."""

WHOLE = 2048
"""Bytes of a block up to which all of it is looked at; of a longer one its length and both ends."""

EDGE = 512
"""Bytes of such an end."""

FEW = 64
"""Parts of a prompt that are looked at from its beginning, and from its end; of those between them their length counts."""

MOST_MARKS = 64
"""Of a prompt, marks kept at either end."""

MOST_PLACES = 1 << 15
"""Marks kept of one backend, whatever its memory."""

LEAST_FACTOR, MOST_FACTOR = 0.05, 1.25
"""Between which a backend's word corrects what is expected."""

_FADES = 0.98  # what a backend said counts so much, one answer later
_PRIOR = 2000.0  # tokens that were as expected, before anything was heard

Piece = tuple[memoryview, bool, bool, int]
"""A part of a prompt: its bytes, whether a backend wrote it, whether the user did, and how many bytes before it are not shown."""


class Prompt(NamedTuple):
    """Beginnings of one prompt, the shortest first, (M,) each."""

    marks: tuple[int, ...]
    ends: tuple[float, ...]  # share of the prompt before the mark
    answered: tuple[float, ...]  # the same with the answer that follows, where one does
    untold: int  # marks that stay true when words are put at the end of the user's last message


NOTHING = Prompt((), (), (), 0)


def prompt_of(pieces: Iterable[Piece]) -> Prompt:
    """The marks of a prompt from its parts in order: the first and the last FEW, less than all where there are more."""
    marks, ends, answered = list[int](), list[int](), list[int]()
    mark, first, size, untold = 0, 0, 0, 0
    for k, (text, answer, user, skipped) in enumerate(pieces):
        size += skipped
        n, at, step = len(text), 0, max(BLOCK, size >> 3)
        if k == FEW:
            first = mark
        if k >= FEW:  # what stands between need not be read: it hangs on the beginning, and on how much there was
            mark = hash((first, size))
        if answer and ends:
            answered[-1] = size + n
        while at + step < n:
            mark = hash((mark, _look(text, at, at + step)))
            at += step
            marks.append(mark)
            ends.append(size + at)
            answered.append(size + at)
            step = max(BLOCK, size + at >> 3)
        if user:
            untold = len(marks)
        mark = hash((mark, _look(text, at, n)))
        size += n
        marks.append(mark)
        ends.append(size)
        answered.append(size)
    over = max(len(marks) - 2 * MOST_MARKS, 0)
    if over:
        untold = min(untold, MOST_MARKS) + max(untold - MOST_MARKS - over, 0)
        del marks[MOST_MARKS:-MOST_MARKS], ends[MOST_MARKS:-MOST_MARKS], answered[MOST_MARKS:-MOST_MARKS]
    whole = max(size, 1)
    return Prompt(tuple(marks), tuple([end / whole for end in ends]), tuple([end / whole for end in answered]), untold)


def _look(text: memoryview, begin: int, end: int) -> bytes | tuple[int, bytes, bytes]:
    if end - begin <= WHOLE:
        return bytes(text[begin:end])
    return end - begin, bytes(text[begin : begin + EDGE]), bytes(text[end - EDGE : end])


class _Memory:
    """What one backend remembers: marks with the tokens before each, beyond those of the mark before; the least lately used first."""

    __slots__ = ("expected", "held", "marks", "most", "said")

    def __init__(self, most: int) -> None:
        self.most = most  # tokens
        self.marks: OrderedDict[int, int] = OrderedDict()
        self.held = 0  # tokens
        self.expected, self.said = _PRIOR, _PRIOR  # tokens remembered, as expected and as the backend said

    @property
    def factor(self) -> float:
        return min(max(self.said / self.expected, LEAST_FACTOR), MOST_FACTOR)

    def known(self, prompt: Prompt) -> float:
        """The share of a prompt that is remembered. A prompt's first mark is the last to be forgotten."""
        marks, here = prompt.marks, self.marks
        if not marks or marks[0] not in here:
            return 0.0
        for i in range(len(marks) - 1, 0, -1):
            if marks[i] in here:
                return prompt.answered[i]
        return prompt.answered[0]

    def keep(self, prompt: Prompt, tokens: int, n: int) -> None:
        """Remember the first `n` marks of a prompt of so many tokens."""
        here = self.marks
        for i in range(n - 1, -1, -1):
            mark = prompt.marks[i]
            if mark not in here:
                before = prompt.ends[i - 1] if i else 0.0
                here[mark] = room = max(round((prompt.ends[i] - before) * tokens), 1)
                self.held += room
            else:
                here.move_to_end(mark)
        while self.held > self.most or len(here) > MOST_PLACES:
            self.held -= here.popitem(last=False)[1]


class Prefixes:
    """read · predict · learn · correct · forget. See the head of this file."""

    def __init__(self) -> None:
        self._memories: dict[str, _Memory] = {}

    def adopt(self, backends: Iterable[Backend]) -> None:
        """These remember from now on, each as much as its profile says; of others nothing is kept."""
        before, self._memories = self._memories, {}
        for backend in backends:
            most = backend.profile.engine.kv_tokens
            memory = before.get(backend.name)
            self._memories[backend.name] = memory if memory is not None and memory.most == most else _Memory(most)

    def any_of(self, names: Iterable[str]) -> bool:
        """Whether one of these backends remembers anything at all."""
        return not self._memories.keys().isdisjoint(names)

    def predict(self, prompt: Prompt, prompt_tokens: int, backends: Sequence[Backend]) -> list[float] | None:
        """Tokens of a prompt that are expected in the memory of each backend, (B,); None where nothing is, of anybody."""
        if not prompt.marks:
            return None
        found, cached = False, [0.0] * len(backends)
        for b, backend in enumerate(backends):
            memory = self._memories.get(backend.name)
            share = 0.0 if memory is None else memory.known(prompt)
            if memory is not None and share > 0.0:
                found, cached[b] = True, min(share * memory.factor * prompt_tokens, prompt_tokens - 1.0)  # the last one is always read
        return cached if found else None

    def learn(self, name: str, prompt: Prompt, prompt_tokens: int, *, told: bool = False) -> float:
        """A backend has read a prompt, `told` at its end to be brief or not. Returns the share that it was expected to know."""
        memory = self._memories.get(name)
        if memory is None:
            return 0.0
        share = memory.known(prompt)
        memory.keep(prompt, prompt_tokens, prompt.untold if told else len(prompt.marks))
        return share

    def correct(self, name: str, expected: float, said: float, prompt_tokens: int) -> None:
        """A backend says what share of a prompt it remembered, beside the one that was expected."""
        memory = self._memories.get(name)
        if memory is not None and expected > 0.0:
            memory.expected = _PRIOR + (memory.expected - _PRIOR) * _FADES + expected * prompt_tokens
            memory.said = _PRIOR + (memory.said - _PRIOR) * _FADES + min(max(said, 0.0), 1.0) * prompt_tokens

    def forget(self, name: str) -> None:
        """A backend has gone, or was started anew: it remembers nothing."""
        memory = self._memories.get(name)
        if memory is not None and memory.marks:
            self._memories[name] = _Memory(memory.most)

"""What is asked of a backend in one go: calls with lengths, and what each waits for. Pure.

Six kinds of script, each for what it shows of an engine:

    warm      anything; the first of its kind is slower, and nothing is learned from it but a rough speed
    prefill   a lone prompt to its first token: overhead + prefill
    stall     prompts that are read while one sequence decodes: its gap shows the prefill alone, without what passes beside the engine
    decode    sequences that decode together: the step
    remember  a prompt whose beginning was read just before: what a remembered token costs
    mix       staggered arrivals, mixed lengths: never fitted, what predictions are held against
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

__all__ = ["BEGIN", "END", "KINDS", "Call", "Script", "anew", "closed", "decode", "mixed", "opened", "prefill", "remember", "stall", "warm"]

KINDS = ("warm", "prefill", "stall", "decode", "remember", "mix")

BEGIN, END = "begin", "end"

FEW = 3
"""Tokens that a lone prompt is asked for: one that overlaps its steps may hold the first token back until the next is under way, and
answers of one token, which nobody asks for otherwise, would not show it."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request: so many tokens to read, so many to say."""

    prompt: int  # tokens, >= 1
    answer: int  # tokens, >= 1
    seed: int  # of the prompt's tokens
    shared: int = 0  # of the prompt's tokens, so many at its beginning are drawn from `family`
    family: int = 0
    after: int | None = None  # index of the call that is waited for; None: the script's begin
    at: str = END  # whether its BEGIN (first token) or its END is waited for
    delay_s: float = 0.0  # from there to sending


@dataclass(frozen=True, slots=True)
class Script:
    """Calls that belong together. Scripts with the same key ask the same, but for the prompts' tokens."""

    kind: str  # one of KINDS
    key: str  # kind and sizes, e.g. "decode 4x256"
    calls: tuple[Call, ...]


def warm(n: int, prompt: int, answer: int, seed: int) -> Script:
    """A few calls at once."""
    return Script("warm", f"warm {n}x{prompt}+{answer}", _together(n, prompt, answer, seed))


def prefill(tokens: int, seed: int) -> Script:
    """A lone prompt that nobody has read."""
    return Script("prefill", f"prefill {tokens}", (Call(tokens, FEW, seed),))


def decode(n: int, prompt: int, answer: int) -> Script:
    """Some sequences that decode together. Their prompts are the same each time, so that a backend that remembers them need not read."""
    return Script("decode", f"decode {n}x{prompt}", _together(n, prompt, answer, n * 1_000_003 + prompt))


def stall(lengths: Sequence[int], step_s: float, seed: int) -> Script:
    """One sequence that decodes, and prompts that are read beside it, one after the other, with a few steps between."""
    decoder = Call(16, 12 + 10 * len(lengths), seed)
    probes = [
        Call(tokens, 1, seed + i, after=i - 1, at=BEGIN if i == 1 else END, delay_s=(3 + (seed * 7 + i * 3) % 10 / 5) * step_s)
        for i, tokens in enumerate(lengths, 1)
    ]
    return Script("stall", "stall " + ",".join(map(str, sorted(lengths))), (decoder, *probes))


def remember(shared: int, tail: int, seed: int) -> Script:
    """A prompt, and then others that begin with it, one after the other."""
    first = Call(shared, FEW, seed, shared=shared, family=seed)
    others = [Call(shared + tail, FEW, seed + i, shared=shared, family=seed, after=i - 1) for i in (1, 2, 3)]
    return Script("remember", f"remember {shared}+{tail}", (first, *others))


def opened(name: str, lengths: Sequence[tuple[int, int]], per_s: float, seed: int) -> Script:
    """Calls of (prompt, answer) tokens that arrive on their own, Poisson, whatever became of the others."""
    dice, at, calls = random.Random(seed), 0.0, list[Call]()  # noqa: S311
    for i, (prompt, answer) in enumerate(lengths):
        calls.append(Call(prompt, answer, seed + i, delay_s=at))
        at += dice.expovariate(per_s)
    return Script("mix", name, tuple(calls))


def closed(name: str, lengths: Sequence[tuple[int, int]], clients: int, apart_s: float, seed: int, pause_s: float = 0.0) -> Script:
    """Calls that so many clients make, each the next when its last was answered; they begin `apart_s` after each other.

    Before it asks again a client pauses, from half of `pause_s` to half as much again. One that asks in the very instant of its last
    token is read by the simulator before the next step, and by a server, which it takes a moment to reach, after it.
    """
    dice = random.Random(seed)  # noqa: S311
    begun = [Call(prompt, answer, seed + i, delay_s=i * apart_s) for i, (prompt, answer) in enumerate(lengths[:clients])]
    later = [
        Call(prompt, answer, seed + i, after=i - clients, delay_s=pause_s * dice.uniform(0.5, 1.5))
        for i, (prompt, answer) in enumerate(lengths[clients:], clients)
    ]
    return Script("mix", name, (*begun, *later))


def anew(one: Script, seed: int) -> Script:
    """The same with prompts of which none begins as another: a backend that remembers has to read them all."""
    return replace(one, calls=tuple(replace(call, seed=seed + i) for i, call in enumerate(one.calls)))


def mixed(n: int, prompts: tuple[int, int], answers: tuple[int, int], seed: int) -> list[tuple[int, int]]:
    """Lengths of n calls, (prompt, answer), both log-uniform between a least and a most."""
    dice = random.Random(seed)  # noqa: S311
    return [(_between(*prompts, dice.random()), _between(*answers, dice.random())) for _ in range(n)]


def _between(least: int, most: int, share: float) -> int:
    return round(math.exp(math.log(least) + share * (math.log(most) - math.log(least))))


def _together(n: int, prompt: int, answer: int, seed: int) -> tuple[Call, ...]:
    return tuple(Call(prompt, answer, seed + i) for i in range(n))

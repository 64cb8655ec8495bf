"""Which scripts, in which order, within the time. Pure.

A round asks every script of the grid once, in an order drawn anew; rounds are repeated until the constants are known well enough or the
time is over. So whenever a profile is interrupted or the time runs out, every size has been asked about as often as every other. What
would take too large a part of the time is left out, by a prediction that grows better as more is measured. A third of the time belongs
to mixes; each is played PLAYS times, between the rounds and after the last, lest a machine that was slow for a minute is held against
constants of another minute.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bestserve.profiles.schema import Engine

from . import script
from .replay import replay
from .script import Script

__all__ = ["MIXES_SHARE", "PLAYS", "Plan", "cost_s"]

MIXES_SHARE = 1 / 3
"""Of the time, for what is not fitted."""

PLAYS = 3
"""Times that a mix is played, each time with other prompts of the same lengths."""

ANSWER = 34  # tokens of a decode script: one of prefill, four blocks of eight, and a last one that is not looked at
LONE_SHARE, DECODE_SHARE = 1 / 100, 1 / 16  # of the time for fitting, that one script may take
HELD_SHARE = 0.6  # of the backend's memory, that one script may hold
FIRST_LONG = 8192  # tokens: the longest prompt that is tried, unless told
MIXES = (  # name, share of what the clients would take, clients; without a share, the clients take turns
    ("mix of four clients", None, 4),
    ("mix nearly full", 0.85, 8),
    ("mix of twelve clients", None, 12),
    ("mix half full", 0.5, 8),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """The grid for one backend."""

    engine: Engine  # as far as it is known by now
    budget_s: float
    longest: int | None = None  # tokens of the longest prompt, as told
    most: int = 256  # sequences that are asked at once

    @property
    def fit_s(self) -> float:
        """Seconds for what is fitted."""
        return self.budget_s * (1 - MIXES_SHARE)

    def lengths(self) -> list[int]:
        """Prompt lengths, doubling from 16 up to what is worth the time."""
        top = min(self.longest or FIRST_LONG, self.engine.context // 2, int(self.engine.kv_tokens * HELD_SHARE / 2))
        lengths = [2**k for k in range(4, top.bit_length()) if 2**k <= top]
        affordable = [n for n in lengths if self.longest or self.engine.prefill_s(n) <= self.fit_s * LONE_SHARE]
        return affordable if len(affordable) >= 4 else lengths[:4]

    def batches(self) -> list[int]:
        """Sequences at once: 1, 4, 16 … and the most."""
        top = max(min(self.engine.max_running, self.most), 1)
        return sorted({4**k for k in range(5) if 4**k < top} | {top})

    def decodes(self) -> list[Script]:
        """Batches by contexts, less what does not fit into memory or time."""
        contexts = [32, *(n for n in self.lengths() if n in (256, 1024, 4096))]
        grid = [script.decode(n, prompt, ANSWER) for n in self.batches() for prompt in contexts if self._fits(n, prompt)]
        affordable = [one for one in grid if cost_s(one, self.engine) <= self.fit_s * DECODE_SHARE]
        return affordable if len(affordable) >= 3 else sorted(grid, key=lambda one: cost_s(one, self.engine))[:3]

    def round(self, kinds: Sequence[str], seed: int) -> list[Script]:
        """One of each script of some kinds, in an order drawn anew; decodes first, lest a short time leaves none."""
        dice, scripts = random.Random(seed), list[Script]()  # noqa: S311
        lengths, step_s = self.lengths(), self.engine.step_s(1, 100)
        if "prefill" in kinds:
            scripts += [script.prefill(n, _seed(dice)) for n in (*lengths, *lengths[:2])]
            mixed = dice.sample(lengths, len(lengths)) + dice.sample(lengths[:4], 4)
            scripts += [script.stall(mixed[i::3], step_s, _seed(dice)) for i in range(3)]
        if "remember" in kinds:
            scripts += [script.remember(n, 16, _seed(dice)) for n in lengths[-2:]]
        decodes = self.decodes() if "decode" in kinds else []
        dice.shuffle(scripts)
        dice.shuffle(decodes)
        return decodes + scripts

    def mixes(self, seed: int, left_s: float, there: Collection[str] = ()) -> list[Script]:
        """Unseen company: clients that take turns, and Poisson, nearly full and half full; less what is `there` already.

        They share the time that is left; where it is short, the later ones are left out, but never the first.
        """
        wanted, chosen = [mix for mix in MIXES if mix[0] not in there], list[Script]()
        for i, mix in enumerate(wanted):
            one = self._sized(mix, seed + i, left_s / (len(wanted) - i))
            if (cost := cost_s(one, self.engine)) <= left_s or not (chosen or there):
                chosen.append(one)
                left_s -= cost
        return chosen

    def _sized(self, mix: tuple[str, float | None, int], seed: int, within_s: float) -> Script:
        """As many calls as take about so long; at least six."""
        best = self._mix(*mix, 6, seed)
        for n in (9, 12, 18, 24, 36, 48, 96, 192):
            bigger = self._mix(*mix, n, seed)
            if cost_s(bigger, self.engine) > within_s:
                break
            best = bigger
        return best

    def _mix(self, name: str, share: float | None, clients: int, n: int, seed: int) -> Script:
        calls = script.mixed(n, (24, self.lengths()[-1]), (8, 96), seed)
        apart_s = self.engine.prefill_s(sum(prompt for prompt, _ in calls) / n)
        turns = script.closed(name, calls, min(clients, self.engine.max_running, n), apart_s, seed)
        if share is None:
            return turns
        return script.opened(name, calls, share * n / cost_s(turns, self.engine), seed)

    def _fits(self, n: int, prompt: int) -> bool:
        held = n * (prompt + ANSWER)
        return prompt + ANSWER <= self.engine.context and held <= self.engine.kv_tokens * HELD_SHARE


def cost_s(one: Script, engine: Engine) -> float:
    """Seconds that a script will take."""
    return max(times.last for times in replay(one.calls, engine))


def _seed(dice: random.Random) -> int:
    return dice.randrange(1 << 40)

"""What a request is believed to be: its task and the length of its answer. Told from its text, corrected by the answers that were seen.

The prior answers where there is no text, where the operator switched reading off, and where reading fails; it is counted which.
"""

import logging
from collections.abc import Iterable
from typing import NamedTuple

from bestserve.policy import drift, signals, task
from bestserve.policy.classify import Classifier
from bestserve.policy.drift import NONE, Drift
from bestserve.policy.facts import SLO, TASKS, Ask, Backend, Budget, Ending, Length, Outcome
from bestserve.policy.record import Record

from .config import ClassifyConfig
from .dialects import openai
from .dialects.prompt import prompt_of
from .watch import Watch

log = logging.getLogger("bestserve")


class Belief(NamedTuple):
    """What is believed of one request."""

    task: tuple[float, ...]  # probabilities over TASKS
    length: Length
    name: str  # the likeliest class, for headers and metrics
    how: str  # "text", "prior", "off" or "failed"; "" where nothing is decided


class Longer(NamedTuple):
    """By how much a backend's answers to one task are longer than expected."""

    backend: str
    task: str
    log: float  # of the factor


class Reading:
    """Reads requests by one config. Knows how far answers were from what it expected."""

    def __init__(self) -> None:
        self.classifier: Classifier | None = None
        self._follows = True
        self.learns = False  # signals are wanted
        self._drifts: dict[tuple[str, str], Drift] = {}
        self._believed: dict[str, dict[str, float]] = {}

    def adopt(self, config: ClassifyConfig, backends: Iterable[Backend]) -> None:
        """Read by another config from now on, for these backends."""
        self.classifier = config.weights if config.enabled else None
        self._follows = config.drift
        self.learns = config.learn and self.classifier is not None
        log.info("prompts are read by %s", {"compiled": "compiled code", "plain": "plain Python"}.get(self.by, self.by))
        self.believe(backends)

    def believe(self, backends: Iterable[Backend]) -> None:
        """What is believed of their lengths is where learning begins; those that are gone are forgotten."""
        self._believed = {backend.name: dict(zip(TASKS, backend.longer, strict=False)) for backend in backends}
        self._drifts = {key: value for key, value in self._drifts.items() if key[0] in self._believed}

    @property
    def by(self) -> str:
        """What reads: "compiled", "plain" (Python), or "nobody"."""
        return "nobody" if self.classifier is None else "compiled" if self.classifier.compiled else "plain"

    @property
    def names(self) -> tuple[str, ...]:
        """What a hint may say."""
        return TASKS if self.classifier is None else self.classifier.names

    def belief(self, parsed: openai.Parsed, hint: str | None, allowed: frozenset[str]) -> Belief:
        """What a request is, and how long its answer gets; its spread is that of the backends that its model admits."""
        if parsed.endpoint not in openai.CAPS:
            return _prior(None, "")
        belief = self._told(parsed, hint)
        return belief._replace(length=drift.widened(belief.length, self._seen(belief.task, allowed))) if self._drifts else belief

    def _told(self, parsed: openai.Parsed, hint: str | None) -> Belief:
        if self.classifier is None:
            return _prior(hint, "off")
        try:
            prompt = prompt_of(parsed)
            if prompt is None:
                return _prior(hint, "prior")
            guess = self.classifier.guess(prompt, hint)
        except Exception:
            log.exception("a prompt could not be read; the prior answers")
            return _prior(hint, "failed")
        return Belief(guess.task, guess.length, guess.name, "text")

    def note(self, record: Record) -> Longer | None:
        """Learn from an answer how long answers are there; say what is believed now, or None where nothing was learnt.

        An answer that was asked to be short says nothing of that.
        """
        outcome, ask, action = record.outcome, record.ask, record.decision.action
        name = task.name_of(ask.task)
        if not self._follows or not outcome.completion_tokens or action.backend is None or action.budget.instruction or name not in TASKS:
            return None
        off = drift.off_by(ask.length, max(outcome.completion_tokens // ask.n, 1), cut=outcome.finish_reason == "length")
        if off is None:
            return None
        seen = self._drifts[action.backend, name] = self._drifts.get((action.backend, name), NONE).seen(off)
        return self._longer(action.backend, name, seen)

    def longer(self) -> list[Longer]:
        """By how much answers are longer than their asks expected, of every backend and task of which some were seen."""
        return [self._longer(backend, name, seen) for (backend, name), seen in self._drifts.items()]

    def _longer(self, backend: str, name: str, seen: Drift) -> Longer:
        return Longer(backend, name, drift.offset(seen, self._believed.get(backend, {}).get(name, 0.0)))

    def _seen(self, tasks: tuple[float, ...], allowed: frozenset[str]) -> Drift:
        name = task.name_of(tasks)
        return drift.joined([self._drifts.get((backend, name), NONE) for backend in allowed])

    def signal(self, parsed: openai.Parsed, ask: Ask, watch: Watch, outcome: Outcome, budget: Budget) -> dict[str, object] | None:
        """What may be kept of a prompt and its answer, where that is switched on. None where there was no whole answer, and no prompt to
        be read. The length of an answer that was cut, or asked to be short, is not told. See `policy.signals`."""
        if self.classifier is None or watch.fence is None or outcome.ending is not Ending.DONE:
            return None
        try:
            prompt = prompt_of(parsed)
            rows = () if prompt is None else self.classifier.rows(prompt, signals.MOST)
        except Exception:
            log.exception("no signal could be made of a prompt")
            return None
        free = outcome.finish_reason != "length" and not budget.instruction
        tokens = max(outcome.completion_tokens // ask.n, 1) if outcome.completion_tokens and free else None
        if not rows:
            return None
        return signals.signal(rows, ask.task, fence=watch.fence, json=bool(watch.json), tokens=tokens, weights=self.classifier.id)


def ask_of(
    parsed: openai.Parsed,
    belief: Belief,
    *,
    allowed: frozenset[str],
    slo: SLO,
    tier: str = "default",
    weight: float = 1.0,
    session: str | None = None,
    usd_weight: float = 0.0,
) -> Ask:
    """What the policy is asked: a body as it was read, what is believed of it, and what the operator and the client's key say."""
    return Ask(
        endpoint=parsed.endpoint,
        model=parsed.model,
        allowed=allowed,
        stream=parsed.stream,
        prompt_tokens=parsed.prompt_tokens,
        max_tokens=parsed.max_tokens,
        n=parsed.n,
        needs=parsed.needs,
        task=belief.task,
        length=belief.length,
        slo=slo,
        tier=tier,
        weight=weight,
        session=session,
        usd_weight=usd_weight,
    )


def _prior(hint: str | None, how: str) -> Belief:
    tasks = hint if hint in TASKS else None
    believed = task.prior(tasks)
    return Belief(believed, task.length(tasks), task.name_of(believed), how)

"""Asks every prompt under every budget, some at a time, and scores each answer as it comes."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from bestserve.policy.facts import Budget

from . import budgets as names
from .ask import Asker, Failed, Hopeless
from .ledger import Ledger, Scored, key
from .prompts import Prompt
from .tally import Rows
from .text import MOST, said

IN_A_ROW = 8
"""So many failures one after the other, and the backend is taken to be gone."""


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt under one budget."""

    prompt: Prompt
    place: int  # of the budget
    budget: str
    body: bytes
    key: str


@dataclass(slots=True)
class Survey:
    """The questions, and what has come of them."""

    asker: Asker
    ledger: Ledger
    questions: Sequence[Question]
    failed: dict[str, str] = field(default_factory=dict)  # prompt and budget -> why
    _row_of_failures: int = 0

    @property
    def n_known(self) -> int:
        return sum(q.key in self.ledger.known for q in self.questions)

    @property
    def rows(self) -> Rows:
        known = self.ledger.known
        return {(q.prompt.id, q.place): known[q.key] for q in self.questions if q.key in known}

    async def run(self, concurrency: int, on_one: Callable[[], None]) -> None:
        """Ask what is not known yet. Raises Hopeless; what has come until then is in the ledger."""
        todo = iter([q for q in self.questions if q.key not in self.ledger.known])
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(self._work(todo, on_one))
        except* Hopeless as hopeless:
            raise Hopeless(*hopeless.exceptions[0].args) from None
        finally:
            self.asker.close()

    async def _work(self, todo: Iterator[Question], on_one: Callable[[], None]) -> None:
        for question in todo:
            try:
                await self._one(question)
                self._row_of_failures = 0
            except Failed as failed:
                self.failed[f"{question.prompt.id} under {question.budget}"] = str(failed)
                self._row_of_failures += 1
                if self._row_of_failures >= IN_A_ROW:
                    raise Hopeless(f"{IN_A_ROW} prompts in a row got no answer, the last one because: {failed}") from failed
            on_one()

    async def _one(self, question: Question) -> None:
        answer = await self.asker.ask(question.body)
        score = await asyncio.to_thread(question.prompt.check.score, said(answer.text))
        self.ledger.add(
            Scored(
                key=question.key,
                id=question.prompt.id,
                task=question.prompt.task,
                budget=question.budget,
                score=round(score, 6),
                cut=answer.cut,
                tokens=answer.tokens,
                at=round(time.time(), 3),
                text=answer.text[:MOST],
            )
        )


def questions(asker: Asker, prompts: Sequence[Prompt], budgets: Sequence[Budget]) -> list[Question]:
    """Every prompt under every budget; those of one prompt beside each other, where a prefix cache sees them."""
    found = []
    for prompt in prompts:
        for place, budget in enumerate(budgets):
            body = asker.body(prompt, budget)
            found.append(Question(prompt, place, names.name(budget), body, key(asker.url, body, prompt)))
    return found

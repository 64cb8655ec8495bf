"""The budgets to try, as the command line says them: `none,384:"Answer in at most 200 words.",128`."""

import re

from bestserve.policy.facts import Budget

BETWEEN = re.compile(r",(?=\s*(?:none|\d+)\s*(?:[:,]|$))")


def parse(text: str) -> tuple[Budget, ...]:
    """Budgets between commas, each a number of tokens or `none`, with an instruction after a colon. Raises ValueError."""
    budgets = tuple(_one(part.strip()) for part in BETWEEN.split(text))
    if len({(b.tokens, b.instruction) for b in budgets}) < len(budgets):
        raise ValueError(f"{text!r} names a budget twice")
    return budgets


def name(budget: Budget) -> str:
    """As it stands in tables: the number of tokens or `none`, and a star where an instruction goes with it."""
    return budget.name + ("*" if budget.instruction else "")


def is_free(budget: Budget) -> bool:
    """Whether it neither caps nor instructs: what the others are compared with."""
    return budget.tokens is None and budget.instruction is None


def _one(part: str) -> Budget:
    cap, _, instruction = part.partition(":")
    cap = cap.strip()
    if cap != "none" and not (cap.isdigit() and int(cap) > 0):
        raise ValueError(
            f'{cap!r} is not a budget: give a number of tokens or none, and after a colon an instruction, as in 384:"Be brief."'
        )
    return Budget(None if cap == "none" else int(cap), instruction.strip().strip("\"'") or None)

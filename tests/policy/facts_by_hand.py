"""Small literal facts that tests build their worlds from."""

from dataclasses import replace

from bestserve.policy import task
from bestserve.policy.decide import Chooser, actions_of, decide
from bestserve.policy.facts import SLO, Ask, Backend, Budget, Decision, Ending, Length, Outcome, Tariff
from bestserve.policy.fleet import Fleet
from bestserve.policy.heuristics import by_name
from bestserve.profiles.schema import TASKS, Engine, Profile

BUDGETS = (Budget(None), Budget(1024), Budget(384), Budget(128))


def engine(slower: float = 1.0, **changes: float) -> Engine:
    """A fast small engine, or one `slower` times slower."""
    plain = Engine(
        prefill_tokens_per_s=50_000 / slower,
        prefill_fixed_s=0.004,
        step_fixed_s=0.004 * slower,
        step_per_seq_s=0.00005 * slower,
        step_per_kv_token_s=5e-8 * slower,
        max_running=64,
        kv_tokens=400_000,
        context=32_768,
        prefill_batch_tokens=8192,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def profile(name: str, *, slower: float = 1.0, quality: float = 0.5, **changes: float) -> Profile:
    """A profile whose quality is the same for every task."""
    return Profile(
        name=name,
        model=f"model-{name}",
        params_b=slower,
        gpu="none",
        n_gpus=1,
        engine=engine(slower, **changes),
        quality=dict.fromkeys(TASKS, quality),
        usd_per_hour=slower,
    )


def backend(name: str, *, slower: float = 1.0, quality: float = 0.5, can: str = "", most: int | None = None, **changes: float) -> Backend:
    """A backend called `name` that can do what `can` lists."""
    return Backend(
        name, f"model-{name}", profile(name, slower=slower, quality=quality, **changes), frozenset(can.split()), max_in_flight=most
    )


SMALL = backend("small", slower=1.0, quality=0.4, can="tools")
MEDIUM = backend("medium", slower=3.0, quality=0.6, can="tools json")
LARGE = backend("large", slower=9.0, quality=0.8, can="tools json vision")
LADDER = (SMALL, MEDIUM, LARGE)
BOUGHT = replace(
    backend("bought", slower=2.0, quality=0.8, can="tools json", max_running=1000, prefill_tokens_per_s=1e6, step_per_seq_s=0.0),
    tariff=Tariff(1e-6, 4e-6, 5e-7),
)
"""Somebody else's: as good as the large one, quick, and paid by the token; 300 in and 129 out are some 0.0008 dollars."""


def ask(**changes: object) -> Ask:
    """A chat of 300 prompt tokens that anybody of the ladder may answer."""
    plain = Ask(
        endpoint="chat",
        model="auto",
        allowed=frozenset({"small", "medium", "large"}),
        stream=True,
        prompt_tokens=300,
        max_tokens=None,
        n=1,
        needs=frozenset(),
        task=task.prior(),
        length=Length(129.0, 0.93),
        slo=SLO(),
        tier="default",
        weight=1.0,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def chooser(name: str, backends: tuple[Backend, ...] = LADDER, budgets: tuple[Budget, ...] = BUDGETS, explore: float = 0.0) -> Chooser:
    """A reference policy for a fleet."""
    actions = actions_of(backends, budgets)
    return Chooser(name, by_name(name, actions), actions, budgets, explore)


def decision(fleet: Fleet, to: str, now: float = 0.0, **changes: object) -> Decision:
    """A decision for one backend, whatever a policy would say."""
    made, _ = decide(ask(**changes), fleet.view(now), chooser(f"static:{to}", fleet.backends), draw=0.0, id=f"d-{to}-{now}")
    return made


def outcome(
    ending: Ending = Ending.DONE, *, total_s: float = 0.5, ttft_s: float | None = 0.1, tokens: int | None = 10, **changes: object
) -> Outcome:
    """How an attempt ended."""
    plain = Outcome(
        ending=ending,
        status=200,
        ttft_s=ttft_s,
        total_s=total_s,
        prompt_tokens=300,
        completion_tokens=tokens,
        cached_tokens=None,
        finish_reason="stop",
        cut=False,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]

"""Our policy as the routing strategy of a `litellm.Router`, for those who keep it.

    router = litellm.Router(model_list=[...])
    install(router)

Facts
    LiteLLM asks a strategy for one of its deployments, tells a listener how calls went, and does everything else itself. Who leaves in the
    middle is told to nobody: an attempt of which nothing was heard for `timeout_s` is closed as abandoned.

Plan
    A deployment is a backend of our Fleet. What the policy knows of it stands in its `model_info`: `profile` (a shipped one's name or a
    path; `provider` unless said) and `quality` (a number, or one for each task). Its price is its own or LiteLLM's. What a request met
    under another deployment is not tried again for it.

What is not handled
    Budgets of length, which a strategy cannot set; LiteLLM's own rpm and tpm limits and cooldowns: circuits take the place of the latter.
"""

import itertools
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from bestserve import profiles
from bestserve.policy import heuristics
from bestserve.policy.decide import Chooser, actions_of, decide
from bestserve.policy.facts import FREE, SLO, Ask, Backend, Budget, Decision, Ending, Outcome, Tariff
from bestserve.policy.fleet import Fleet, Ticket

from .config import ClassifyConfig
from .config_bought import PROVIDER
from .dialects import openai, providers
from .reading import Reading, ask_of

MARK, TRIED = "bestserve_decision", "bestserve_tried"
"""What a request's metadata hold of ours."""

HANDED_ON = ("messages", "input", "max_tokens", "max_completion_tokens", "n", "stream", "tools", "response_format")
PLAIN = (Budget(),)
USUAL = SLO()


def install(router: Any, **how: Any) -> "Strategy":
    """Let a Router choose by our policy from now on. `how` is what Strategy takes."""
    strategy = Strategy(router, **how)
    router.set_custom_routing_strategy(strategy)
    lite = providers.library()
    lite.logging_callback_manager.add_litellm_callback(providers.listener(strategy.succeeded, strategy.failed))
    return strategy


class Strategy:
    """What `litellm.types.router.CustomRoutingStrategyBase` asks for. Safe to be called from several threads."""

    def __init__(
        self,
        router: Any,
        *,
        policy: str = "deadline-greedy",
        slo: SLO = USUAL,
        usd_weight: float = 100.0,
        timeout_s: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._router = router
        self._slo, self._usd_weight, self._timeout_s = slo, usd_weight, timeout_s
        self._clock, self._draw = clock, draw
        self._ids = (f"{n:x}" for n in itertools.count(1))
        self._lock = threading.Lock()
        self._open: dict[str, Ticket] = {}  # by decision, oldest first
        self.fleet = Fleet(backend_of(deployment) for deployment in router.model_list)
        for name in self.fleet.names:
            self.fleet.ready(name, True, clock())
        actions = actions_of(self.fleet.backends, PLAIN)
        self._chooser = Chooser(policy, heuristics.by_name(policy, actions), actions, PLAIN)
        self._reading = Reading()
        self._reading.adopt(ClassifyConfig(), self.fleet.backends)

    async def async_get_available_deployment(self, *args: Any, **kwargs: Any) -> Any:
        """As below."""
        return self.get_available_deployment(*args, **kwargs)

    def get_available_deployment(
        self,
        model: str,
        messages: list[dict[str, Any]] | None = None,
        input: str | list[Any] | None = None,  # noqa: A002  LiteLLM's name
        specific_deployment: bool | None = False,
        request_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """One of the Router's deployments. Raises LiteLLM's RateLimitError where nobody can answer, or nothing is worth its price."""
        deployments = {d["model_info"]["id"]: d for d in self._router.get_model_list(model_name=model) or ()}
        asked = {} if request_kwargs is None else request_kwargs
        told = {name: asked[name] for name in HANDED_ON if asked.get(name) is not None}
        told |= {"messages": messages} if messages is not None else {"input": input}
        with self._lock:
            decision = self._decided(model, frozenset(deployments), told, asked)
        name = decision.action.backend
        if name is None:
            raise providers.library().RateLimitError(f"no deployment of {model!r} can answer now", model=model, llm_provider="")
        return deployments[name]

    def _decided(self, model: str, allowed: frozenset[str], told: dict[str, Any], asked: dict[str, Any]) -> Decision:
        now = self._clock()
        self._forget(now)
        self.fleet.arrive(now)
        metadata = asked.setdefault("metadata", {})
        tried = metadata.setdefault(TRIED, [])
        view = self.fleet.view(now).without(frozenset(tried) if allowed - set(tried) else frozenset())
        decision, _ = decide(self._ask(model, allowed, told), view, self._chooser, draw=self._draw(), id=next(self._ids))
        if decision.action.backend is not None:
            tried.append(decision.action.backend)  # LiteLLM asks again with the same metadata when this one fails
            asked["metadata"] = {**metadata, MARK: decision.id}
            self._open[decision.id] = self.fleet.begin(decision, now, silent=True)
        return decision

    def _ask(self, model: str, allowed: frozenset[str], told: Mapping[str, Any]) -> Ask:
        body = orjson.dumps({"model": model, **told}, default=lambda part: part.model_dump(exclude_none=True))
        parsed = openai.parse("chat" if "messages" in told else "embeddings", body)
        belief = self._reading.belief(parsed, None, allowed)
        return ask_of(parsed, belief, allowed=allowed, slo=self._slo, usd_weight=self._usd_weight)

    def succeeded(self, said: Mapping[str, Any], answer: Any, took_s: float, first_s: float | None) -> None:
        """LiteLLM has an answer, whole."""
        usage = getattr(answer, "usage", None)
        prompt, tokens = (getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens"))
        self._end(said, Outcome(Ending.DONE, 200, first_s, took_s, prompt, tokens, None, "stop", cut=False))

    def failed(self, said: Mapping[str, Any], error: Exception, took_s: float) -> None:
        """LiteLLM has none."""
        refusal = providers.failure_of(error)
        nothing = Outcome(Ending.REFUSED, refusal.status, None, took_s, None, None, None, None, cut=False)
        self._end(said, replace(nothing, reason=refusal.reason))

    def _end(self, metadata: Mapping[str, Any], outcome: Outcome) -> None:
        with self._lock:
            ticket = self._open.pop(metadata.get(MARK, ""), None)
            if ticket is not None:
                self.fleet.end(ticket, outcome, self._clock())

    def _forget(self, now: float) -> None:
        """Close what nothing was heard of for too long."""
        while self._open and next(iter(self._open.values())).begun < now - self._timeout_s:
            ticket = self._open.pop(next(iter(self._open)))
            self.fleet.end(ticket, Outcome(Ending.ABANDONED, 0, None, now - ticket.begun, None, None, None, None, cut=False), now)


def backend_of(deployment: Mapping[str, Any]) -> Backend:
    """A Router's deployment as the policy knows it. Raises BadProfile."""
    params, info = deployment["litellm_params"], deployment["model_info"]
    known = providers.known(params["model"]) if not params.get("custom_llm_provider") else providers.NOTHING
    profile, quality = profiles.load(info.get("profile", PROVIDER)), info.get("quality")
    if isinstance(quality, int | float):
        quality = dict.fromkeys(profile.quality, float(quality))
    profile = replace(profile, quality={**profile.quality, **(quality or {})})
    return Backend(
        info["id"],
        params["model"],
        profile,
        profile.capabilities | known.capabilities,
        params.get("max_parallel_requests"),
        _tariff(params, known),
    )


def _tariff(params: Mapping[str, Any], known: providers.Known) -> Tariff:
    prompt, answer = params.get("input_cost_per_token"), params.get("output_cost_per_token")
    return known.tariff or FREE if prompt is None and answer is None else Tariff(prompt or 0.0, answer or 0.0)

"""Answer one ask. Ends when the call ends, however it ends.

The books belong to the response call, because it is the one thing that always ends: generators and background tasks of a response may
be finished late or never when a client goes away. Each attempt opens one entry on the Fleet, and one `finally` closes it and makes
one Record. Beside the attempts something waits for the client to leave and then cancels them, so that a client who leaves
during a long prefill frees its backend at once and not at the first byte.
"""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import NoReturn

from starlette.types import Receive, Scope, Send

from bestserve.policy.decide import Lack, retry_after_s, why_nobody
from bestserve.policy.encode import Observation
from bestserve.policy.facts import Ask, Budget, Decision, Ending, FleetView, Outcome
from bestserve.policy.fleet import Ticket
from bestserve.policy.prefixes import NOTHING, Prompt
from bestserve.policy.record import Record

from .dialects import openai, sse
from .dialects.dialect import PATHS, Dialect
from .errors import OURS, AskFailure, BadAsk, Broke, Failure, NobodyCan, Refused, Rejected, Shed, TooLong, error_body, response_of
from .judge import Case
from .provider import Answer, Source
from .push import Aside, begun
from .serving import Serving
from .watch import Watch

log = logging.getLogger("bestserve")

PROMPT = {"chat": "messages", "completions": "prompt", "embeddings": "input", "responses": "input"}
"""The field that holds each endpoint's prompt."""

PROGRESS = 32
"""Tokens between two reports of progress to the Fleet."""


@dataclass(slots=True)
class Relay:
    """An ASGI response."""

    here: Serving
    ask: Ask
    parsed: openai.Parsed
    request_id: str
    arrived: float  # when the request's head was here
    task_name: str
    told: list[tuple[bytes, bytes]]  # headers that every answer carries
    caller: str  # name of the key
    prompt: Prompt = NOTHING  # what backends may remember of it
    remembered: float = 0.0  # share of it that was expected to be remembered by the backend that is answering
    odds: float = 0.0  # with which the coin kept the Record that is being made; 0 when it did not
    started: bool = False  # a byte of the answer has gone to the client
    left: bool = False  # the client has gone away
    tried: int = 0
    busy: bool = False  # somebody said no for another reason than the request's length
    too_long: Refused | None = None
    unfit: AskFailure | None = None  # what a backend had against the request that another might not have

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        work = asyncio.current_task()
        assert work is not None
        watcher = Aside(self._watch(receive, work))
        try:
            await self.attempts(send)
        except Failure as failure:
            watcher.end()  # nothing is left that a client's leaving would have to end
            await response_of(failure, self._told())(scope, receive, send)
        except Exception:
            watcher.end()
            log.exception("request %s failed", self.request_id)
            if not self.started:
                await response_of(Failure(OURS), self._told())(scope, receive, send)
        except asyncio.CancelledError:
            work.uncancel()
            if not self.left:  # the server is going down
                await self._say_goodbye(scope, receive, send)
        finally:
            watcher.end()

    def _told(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.told}

    async def attempts(self, send: Send) -> None:
        """Ask one backend after another until one answers. Raises Failure when nobody is left."""
        refused: frozenset[str] = frozenset()
        self.here.fleet.arrive(self.arrived)
        self.prompt = self.here.prompt_of(self.ask, self.parsed)
        while True:
            view = self.here.view().without(refused | self.here.gates.shut(self.ask, self.here.clock()))
            decision, observation = self.here.decide(self.ask, view, self.prompt)
            self.odds = self.here.memory.toss()
            now = self.here.clock()
            self.here.metrics.decided(decision, self.task_name, now - view.now, now - self.arrived)
            if decision.action.backend is None:
                self._shed(decision, observation, view)
            if await self.attempt(decision, view, send):
                return
            refused |= {decision.action.backend or ""}

    async def attempt(self, decision: Decision, view: FleetView, send: Send) -> bool:
        """One backend, one try. False when it said no, or failed, before the client had a byte."""
        here, begun = self.here, self.here.clock()
        looks, keeps = here.reading.learns and self.odds > 0, self._is_judged()
        watch = Watch(begun, usage_asked=self.parsed.usage_asked, looks=looks, keeps=keeps)
        cap, ours = _cap(self.parsed.max_tokens, decision.action.budget)
        ticket, grant = here.begin(decision, begun, silent=not self.parsed.stream), None
        try:
            grant = here.gates.enter(decision, self.ask, cap, begun)
            await self._exchange(decision, cap, watch, ticket, send)
            watch.ending = Ending.DONE
        except Refused as refusal:
            watch.ending, watch.status, watch.reason = Ending.REFUSED, refusal.status, refusal.reason
            self.busy |= refusal.reason not in ("context", "unfit")
            self.unfit = refusal.rejection or self.unfit
            here.gates.refused(decision, refusal, begun)
            if refusal.reason == "context" and (self.too_long is None or refusal.limit > self.too_long.limit):
                self.too_long = refusal
        except Rejected as rejection:
            watch.ending, watch.status, watch.reason = Ending.REJECTED, rejection.status, rejection.failure.code
            raise rejection.failure from None
        except Broke as broke:
            watch.ending, watch.reason = Ending.BROKE, str(broke)
            if self.started:
                await self._say_broken(send)
        except OSError:  # the client's side of the wire
            watch.ending, self.left = Ending.ABANDONED, True
        finally:
            now = here.clock()
            outcome = watch.outcome(now, our_cap=cap if ours else None)
            if grant is not None:
                outcome = replace(outcome, usd=here.gates.leave(grant, outcome, watch.tokens))
            here.end(ticket, outcome, now)
            self._hear(decision, outcome)
            signal = here.reading.signal(self.parsed, self.ask, watch, outcome, decision.action.budget)
            self._report(decision, view, outcome, signal)
            self._offer(decision, watch)
            self.tried += 1
        return self.started or watch.ending not in (Ending.REFUSED, Ending.BROKE)

    async def _exchange(self, decision: Decision, cap: int | None, watch: Watch, ticket: Ticket, send: Send) -> None:
        upstream, model = self.here.upstream_of(decision)
        body = openai.forward(self.parsed, model=model, cap=cap, instruction=decision.action.budget.instruction)
        reply = await _open(upstream, PATHS[self.ask.endpoint], body, self.parsed.stream)
        try:
            watch.status = reply.status
            if self.parsed.stream and _is_stream(reply):
                await self._stream(reply, upstream.speaks, decision, watch, ticket, send)
            else:
                await self._whole(reply, decision, watch, send)
        finally:
            reply.close()

    async def _whole(self, reply: Answer, decision: Decision, watch: Watch, send: Send) -> None:
        body = await reply.whole()
        watch.whole(body)
        await self._start(send, reply, decision, [(b"content-length", b"%d" % len(body))])
        self.remembered = self.here.learn_prefix(decision, self.prompt)
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, reply: Answer, speaks: Dialect, decision: Decision, watch: Watch, ticket: Ticket, send: Send) -> None:
        first = await self._first(reply, speaks, watch)
        await self._start(send, reply, decision, [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")])
        reported, clock = watch.tokens, self.here.clock
        self.here.fleet.progress(ticket, reported, clock())

        def sink(data: bytes) -> Awaitable[None] | None:
            nonlocal reported
            piece = _passed(watch, data, clock())
            if watch.tokens - reported >= PROGRESS:
                self.here.fleet.progress(ticket, watch.tokens - reported, clock())
                reported = watch.tokens
            return begun(send({"type": "http.response.body", "body": piece, "more_body": True})) if piece else None

        await send({"type": "http.response.body", "body": first, "more_body": True})
        self.remembered = self.here.learn_prefix(decision, self.prompt)
        await reply.pump(sink)
        await send({"type": "http.response.body", "body": watch.flush()})

    async def _first(self, reply: Answer, speaks: Dialect, watch: Watch) -> bytes:
        """The first whole event. Raises Refused or Rejected when it is an error: nothing has been promised to the client yet."""
        piece = b""
        while not piece:
            data = await reply.read()
            if not data:
                piece = watch.flush()
                if not piece:
                    raise Refused("empty_answer", status=reply.status)
                break
            piece = _passed(watch, data, self.here.clock())
        failure = speaks.error_in(sse.first_of(piece))
        if failure is not None:
            raise failure
        return piece

    async def _start(self, send: Send, reply: Answer, decision: Decision, more: list[tuple[bytes, bytes]]) -> None:
        self.started = True
        kind = next((value for name, value in reply.headers if name == b"content-type"), b"application/json")
        headers = [(b"content-type", kind), *self.told, *self._decided(decision), *more]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    def _decided(self, decision: Decision) -> list[tuple[bytes, bytes]]:
        """What was decided, for whoever wants to know."""
        said = {
            b"x-bestserve-decision": self.here.memory.told(decision.id, self.caller),
            b"x-bestserve-backend": str(decision.action.backend),
            b"x-bestserve-budget": decision.action.budget.name,
            b"x-bestserve-task": self.task_name,
            b"x-bestserve-policy": decision.policy,
        }
        return [(name, value.encode("latin-1")) for name, value in said.items()]

    async def _say_broken(self, send: Send, why: str = "The backend failed while it was answering.", code: str = "backend_failed") -> None:
        """An honest end for a stream that broke: an error event, which the OpenAI SDKs raise, and no [DONE]."""
        body = error_body(why, type_="server_error", code=code)
        await send({"type": "http.response.body", "body": b"data: " + body + b"\n\n"})

    async def _say_goodbye(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.started:
            await self._say_broken(send, "The proxy is going down.", "going_down")
            return
        failure = NobodyCan("The proxy is going down. Please try again.", retry_after_s=1.0)
        await response_of(failure, self._told())(scope, receive, send)

    async def _watch(self, receive: Receive, work: asyncio.Task[None]) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left = True
        work.cancel()

    def _shed(self, decision: Decision, observation: Observation, view: FleetView) -> NoReturn:
        """Nobody is asked: by choice, or because nobody can. Makes the Record and raises the failure that says which."""
        here = self.here
        lack = why_nobody(self.ask, view, here.chooser.budgets)
        outcome = Outcome(Ending.SHED, 0, None, 0.0, None, None, None, None, cut=False, reason=str(lack or "choice"))
        self._report(decision, view, outcome)
        failure = self._why(lack, retry_after_s(observation, here.draw()))
        here.metrics.shed(failure.code or "unknown", self.ask.tier)
        raise failure

    def _why(self, lack: Lack | None, retry_s: float) -> Failure:
        ask = self.ask
        if self.too_long is not None and not self.busy:
            return TooLong(str(self.too_long), param=PROMPT[ask.endpoint])
        if self.unfit is not None and not self.busy:
            return self.unfit
        if lack is Lack.ABILITY:
            return BadAsk(
                f"No backend of model '{ask.model}' offers what this request needs: {', '.join(sorted(ask.needs))}.", param="model"
            )
        if lack is Lack.CONTEXT:
            longest = max(b.profile.engine.context for b in self.here.fleet.backends if b.name in ask.allowed)
            return TooLong(_over(ask, longest), param=PROMPT[ask.endpoint])
        if lack is None:
            return Shed("The fleet is overloaded; an answer would have been late. Please try again later.", retry_after_s=retry_s)
        return NobodyCan("No backend can take the request now. Please try again later.", retry_after_s=retry_s)

    def _is_judged(self) -> bool:
        return self.odds > 0 and self.ask.endpoint in openai.CAPS and self.ask.n == 1 and self.here.judge.wants()

    def _offer(self, decision: Decision, watch: Watch) -> None:
        """Let a judge have an answer that it wanted, and that ended well."""
        prompt = self.parsed.fields.get(PROMPT[self.ask.endpoint])
        if watch.kept is not None and watch.ending is Ending.DONE and prompt is not None:
            self.here.judge.offer(Case(decision.id, self.caller, bytes(prompt), bytes(watch.kept), self.parsed.stream))

    def _report(self, decision: Decision, view: FleetView, outcome: Outcome, signal: dict[str, object] | None = None) -> None:
        record = self._record(decision, view, outcome, signal)
        self.here.report(record, self.arrived)
        prompt = self.parsed.fields.get(PROMPT[self.ask.endpoint]) if self.odds else None
        text = None if prompt is None else memoryview(prompt)
        self.here.memory.keep(record, self.odds, caller=self.caller, prompt=text, left=self.left)

    def _hear(self, decision: Decision, outcome: Outcome) -> None:
        """What the backend says that it remembered of the prompt corrects what is expected of it."""
        if self.remembered and outcome.cached_tokens is not None and outcome.prompt_tokens:
            share = outcome.cached_tokens / outcome.prompt_tokens
            self.here.prefixes.correct(str(decision.action.backend), self.remembered, share, decision.prompt_tokens)

    def _record(self, decision: Decision, view: FleetView, outcome: Outcome, signal: dict[str, object] | None) -> Record:
        return Record(self.request_id, self.tried, self.here.wall(), "live", self.ask, view, decision, outcome, signal)


def _over(ask: Ask, longest: int) -> str:
    """By how much an estimated request is too long."""
    asked = ask.prompt_tokens + (ask.max_tokens or 0)
    return (
        f"This asks for about {asked} tokens ({ask.prompt_tokens} in the prompt, by its size, and {ask.max_tokens or 0} for the answer), "
        f"about {max(asked - longest, 1)} more than the longest context of model '{ask.model}', which is {longest} tokens."
    )


def _cap(ceiling: int | None, budget: Budget) -> tuple[int | None, bool]:
    """The cap that goes upstream, and whether it is ours: a budget only ever lowers the client's ceiling."""
    if budget.tokens is None or (ceiling is not None and ceiling <= budget.tokens):
        return ceiling, False
    return budget.tokens, True


def _passed(watch: Watch, data: bytes, now: float) -> bytes:
    try:
        return watch.pass_on(data, now)
    except ValueError as error:
        raise Broke(str(error)) from error


async def _open(upstream: Source, path: str, body: bytes, stream: bool) -> Answer:
    """A reply with status 200. Raises Refused or Rejected for any other."""
    reply = await upstream.exchange("POST", path, body, stream=stream)
    if reply.status == 200:
        return reply
    try:
        said = await reply.whole()
    except Broke as error:
        raise Refused("broke_while_refusing", status=reply.status) from error
    finally:
        reply.close()
    raise upstream.speaks.failure_of(reply.status, said)


def _is_stream(reply: Answer) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in reply.headers)

"""One backend's continuous batching as arithmetic: who is prefilled, who decodes, how long it takes.

Facts. An engine does one thing at a time. A *prefill step* reads the prompts of a few waiting requests and brings each its
first token; a *decode step* brings every running sequence one token. Prefill goes first: nobody decodes while a prompt can be
read. The queue is first come, first served, and its head blocks it. A prompt longer than what is left of a batch is read in
chunks over several steps. What a sequence holds of the KV memory is its prompt and its answer so far; the choices of one
request share the prompt's part, though each reads all of it at every step. A request is let in when there is a place for each
of its choices, and when its prompt, its whole ceiling (at most CLIP tokens) and a share PROMISE of the ceilings of those who
run fit in the memory. As the answers grow the memory may still run out: then the youngest request goes back to the head of the
queue, keeps what it has said, and has to be read again.

Goals. The same numbers for whoever asks: a simulator that jumps from event to event, and an emulator that waits out every step.
No clock and no dice: how long an answer will be stands in the Job, and `step` says how long it took. Everything is ordered, so
the same calls give the same state. Cost does not grow with tokens: while nobody comes or goes, k decode steps are one sum (a
step's time is linear in the context, so k steps take k times the one in the middle), and finding who is next to finish is a
heap.

Plan. `submit` and `abort` at any instant; then, as long as `step` does not answer None, let `duration_s` pass and look at what
it brought. A Step has all its effects on the State at once: between its begin and `ends_at`, the State is that of its end. A
simulator bounds the jump at the next arrival with `limit=steps_within(state, seconds)`.

What is not handled. Which prompts the engine remembers (`Job.cached_tokens` says it, and all of a prompt counts as held, though
prompts may share it); what passes beside the engine (`overhead_s`); mixed batches of prefill and decode; speculative decoding;
priorities and pre-emption; data-parallel ranks; choices of one request let in one by one (they come, and are retracted,
together; so a request of more choices than `max_running` is refused). SGLang moves PROMISE between 0.7 and 0.1 with its luck;
here it stays where a calm server ends up, and does not shrink as an answer grows.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush

from bestserve.profiles.schema import Engine

from .facts import Load

__all__ = [
    "CLIP",
    "PROMISE",
    "Job",
    "QueueFull",
    "State",
    "Step",
    "abort",
    "generated",
    "idle",
    "load",
    "progress",
    "step",
    "steps_within",
    "submit",
    "waiting_tokens",
]

CLIP = 4096
"""Tokens of a ceiling that count when a request asks to be let in (SGLang's SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION)."""

PROMISE = 0.1
"""Share of its clipped ceiling that stays set aside for a sequence that runs (SGLang's new_token_ratio at rest), in [0, 1]."""


class QueueFull(ValueError):
    """As many requests wait as may; the message says how many."""


@dataclass(frozen=True, slots=True)
class Job:
    """One request as the engine sees it: so many tokens to read, so many to say."""

    id: str
    prompt_tokens: int  # >= 1
    answers: tuple[int, ...] = (1,)  # tokens that each choice will come to, >= 0; 0 is read and not answered (an embedding)
    cap: int | None = None  # tokens a choice may come to, as the request says; None: its longest answer
    cached_tokens: int = 0  # tokens of the prompt that the engine has read before and remembers, < prompt_tokens


@dataclass(frozen=True, slots=True)
class Step:
    """What one step, or several decode steps at once, took and brought. All of it is there at `ends_at`."""

    duration_s: float
    ends_at: float  # seconds, on the caller's clock
    prefill_tokens: int  # prompt tokens read; 0 says that this was decoding
    decode_steps: int  # decode steps taken together; 0 says that this was a prefill
    tokens: int  # answer tokens brought, over all sequences
    first_tokens: tuple[str, ...]  # jobs that have their first token now
    ended: tuple[tuple[str, int], ...]  # (job, choice) that are complete, in the order of their end
    finished: tuple[str, ...]  # jobs whose last choice is complete: they have left
    retracted: tuple[str, ...]  # jobs that went back to the queue for want of memory


@dataclass(slots=True, eq=False)
class _Work:
    """A Job on its way. Lists go by choice."""

    job: Job
    order: int  # of submission
    made: list[int]  # tokens said, true while the choice does not decode
    ends: list[int]  # number of the decode step that brings the last token; -1 while the choice does not decode
    asks: int  # tokens a choice may still need when it wants in
    promise: int  # tokens set aside for each choice that runs
    todo: int = 0  # tokens of context still to be read before it decodes


@dataclass(slots=True)
class State:
    """One engine at one instant. Only the functions of this module write to it."""

    engine: Engine
    queue: deque[_Work] = field(default_factory=deque)  # in the order they will be let in
    opening: _Work | None = None  # let in, its prompt read in part
    running: dict[str, _Work] = field(default_factory=dict)  # decoding, in the order they were let in
    known: dict[str, _Work] = field(default_factory=dict)  # all of the above
    ends: list[tuple[int, int, int, str]] = field(default_factory=list)  # heap: (decode step, order, choice, job); may be stale
    orders: int = 0  # jobs ever submitted
    steps: int = 0  # decode steps ever taken
    waiting: int = 0  # sequences in the queue
    alive: int = 0  # sequences let in that are not complete
    used: int = 0  # tokens of KV memory held
    context: int = 0  # tokens that a decode step reads, over all sequences
    promised: int = 0  # tokens set aside for those who run


def submit(state: State, job: Job) -> None:
    """Put a job at the end of the queue. Raises QueueFull, or ValueError for a job that could never be served."""
    _check(state, job)
    limit = state.engine.max_queued
    if limit is not None and state.waiting >= limit:
        raise QueueFull(f"{state.waiting} requests wait, and {limit} may")
    n, clipped = len(job.answers), min(max(job.cap or 0, *job.answers), CLIP)
    work = _Work(job, state.orders, [0] * n, [-1] * n, clipped, math.ceil(PROMISE * clipped))
    state.orders += 1
    state.known[job.id] = work
    state.queue.append(work)
    state.waiting += _n_pending(state, work)


def abort(state: State, id: str) -> bool:  # noqa: A002  what every face calls it
    """Forget a job wherever it is. False when it is not there (any more)."""
    work = state.known.pop(id, None)
    if work is None:
        return False
    if work is state.opening or id in state.running:
        _release(state, work)
    else:
        state.queue.remove(work)
        state.waiting -= _n_pending(state, work)
    return True


def step(state: State, now: float, limit: int = 1) -> Step | None:
    """Do the next thing: one prefill batch, else up to `limit` decode steps with the same company. None when there is nothing."""
    if limit < 1:
        raise ValueError(f"limit must be at least 1, is {limit}")
    whole, read = _read(state)
    if read:
        return _prefilled(state, now, whole, read)
    return _decode(state, now, limit) if state.alive else None


def steps_within(state: State, seconds: float) -> int:
    """The least number of decode steps of today's company that take `seconds` or more; at least 1."""
    first = state.engine.step_s(state.alive, state.context)
    growth = state.alive * state.engine.step_per_kv_token_s / 2
    if seconds <= first:
        return 1
    slope = first - growth
    return math.ceil(2 * seconds / (slope + math.sqrt(slope * slope + 4 * growth * seconds)))


def idle(state: State) -> bool:
    """Whether there is nobody to serve."""
    return not state.known


def load(state: State) -> Load:
    """What the engine would say of itself now. A request of n choices counts n times, as SGLang counts it."""
    limits = state.engine
    return Load(state.alive, state.waiting, state.used, max_running=limits.max_running, kv_tokens=limits.kv_tokens)


def waiting_tokens(state: State) -> int:
    """Tokens still to be read for those who wait, and for the one whose prompt is read in part."""
    return sum(_unread(state, work) for work in state.queue) + (state.opening.todo if state.opening else 0)


def generated(state: State, id: str) -> tuple[int, ...] | None:  # noqa: A002
    """Tokens said so far by each choice of a job; None when it is not there (any more)."""
    work = state.known.get(id)
    return None if work is None else tuple(_made(state, work, choice) for choice in range(len(work.made)))


def progress(state: State) -> Iterator[tuple[str, tuple[int, ...]]]:
    """`generated` of every job that decodes, in the order they were let in."""
    for id, work in state.running.items():  # noqa: A001
        yield id, tuple(_made(state, work, choice) for choice in range(len(work.made)))


def _check(state: State, job: Job) -> None:
    limits = state.engine
    if job.id in state.known:
        raise ValueError(f"{job.id!r} is there already")
    if job.prompt_tokens < 1 or not job.answers or min(job.answers) < 0:
        raise ValueError(f"a job has a prompt and answers of no less than 0 tokens: {job}")
    if not 0 <= job.cached_tokens < job.prompt_tokens:
        raise ValueError(f"of {job.prompt_tokens} tokens, {job.cached_tokens} cannot be remembered: the last one is always read")
    if len(job.answers) > limits.max_running:
        raise ValueError(f"{len(job.answers)} choices are more than the {limits.max_running} sequences that run together")
    if job.prompt_tokens + max(job.answers) > limits.context:
        raise ValueError(f"{job.prompt_tokens} + {max(job.answers)} tokens exceed the context of {limits.context}")
    if job.prompt_tokens + sum(job.answers) > limits.kv_tokens:
        raise ValueError(f"{job.prompt_tokens} + {sum(job.answers)} tokens exceed the memory of {limits.kv_tokens}")


def _made(state: State, work: _Work, choice: int) -> int:
    """Tokens that one choice has said."""
    last = work.ends[choice]
    return work.made[choice] if last < 0 else work.job.answers[choice] - (last - state.steps)


def _pending(state: State, work: _Work) -> list[int]:
    """The choices that are not complete."""
    return [choice for choice, whole in enumerate(work.job.answers) if _made(state, work, choice) < whole]


def _n_pending(state: State, work: _Work) -> int:
    """Sequences that a job counts for: its choices, or one if it only has to be read."""
    return len(_pending(state, work)) or 1


def _held(state: State, work: _Work) -> int:
    """Tokens of KV memory that a job holds when its prompt has been read: the prompt once, and what was said."""
    return work.job.prompt_tokens + sum(_made(state, work, choice) for choice in _pending(state, work))


def _unread(state: State, work: _Work) -> int:
    """Tokens to be read before it can speak; each that is remembered counts for its share of one."""
    return _held(state, work) - round(work.job.cached_tokens * (1 - state.engine.prefill_cached_cost))


def _read(state: State) -> tuple[list[_Work], int]:
    """Fill one prefill batch. Who is read to the end now, and the batch's tokens."""
    room, asked, whole = state.engine.prefill_batch_tokens, 0, list[_Work]()
    while room and (work := state.opening or _let_in(state, asked)) is not None:
        taken = min(work.todo, room)
        room -= taken
        work.todo -= taken
        asked += _n_pending(state, work) * max(work.asks - work.promise, 0)
        state.opening = work if work.todo else None
        if not work.todo:
            whole.append(work)
    return whole, state.engine.prefill_batch_tokens - room


def _let_in(state: State, asked: int) -> _Work | None:
    """The head of the queue, if it may begin beside those who run and the `asked` tokens of those who begin with it."""
    if not state.queue or not _fits(state, state.queue[0], asked):
        return None
    work = state.queue.popleft()
    n = _n_pending(state, work)
    state.waiting -= n
    state.alive += n
    state.promised += n * work.promise
    work.todo = _unread(state, work)
    state.used += _held(state, work)
    return work


def _fits(state: State, work: _Work, asked: int) -> bool:
    if state.used == 0:  # alone it fits: `_check` saw to it
        return True
    n, limits = _n_pending(state, work), state.engine
    wanted = _held(state, work) + n * work.asks
    return state.alive + n <= limits.max_running and state.used + state.promised + asked + wanted <= limits.kv_tokens


def _prefilled(state: State, now: float, whole: list[_Work], read: int) -> Step:
    """The end of a prefill batch: each choice of those read to the end has one more token."""
    first = tuple(work.job.id for work in whole if not any(work.made) and any(work.job.answers))
    tokens, ended = 0, list[tuple[_Work, int]]()
    for work in whole:
        state.running[work.job.id] = work
        pending = _pending(state, work)
        tokens += len(pending)
        ended += [(work, choice) for choice in pending if _begin(state, work, choice)]
        if not pending:
            ended.append((work, 0))
    duration_s = state.engine.prefill_s(read)
    return Step(duration_s, now + duration_s, read, 0, tokens, first, *_leave(state, ended), ())


def _begin(state: State, work: _Work, choice: int) -> bool:
    """Give a choice the token that its prefill brought; then it decodes, or is complete: True."""
    work.made[choice] += 1
    state.used += 1
    left = work.job.answers[choice] - work.made[choice]
    work.ends[choice] = state.steps + left
    state.context += work.job.prompt_tokens + work.made[choice]
    if left:
        heappush(state.ends, (work.ends[choice], work.order, choice, work.job.id))
    return not left


def _decode(state: State, now: float, limit: int) -> Step:
    """Up to `limit` steps: until the first is complete, or the memory is full."""
    retracted = tuple(_make_room(state))
    n, context, room = state.alive, state.context, state.engine.kv_tokens - state.used
    steps = min(limit, _next_end(state) - state.steps, room // n)
    state.steps += steps
    state.used += steps * n
    state.context += steps * n
    duration_s = steps * state.engine.step_s(n, context + n * (steps - 1) / 2)
    return Step(duration_s, now + duration_s, 0, steps, steps * n, (), *_leave(state, _complete(state)), retracted)


def _make_room(state: State) -> Iterator[str]:
    """Retract the youngest until every other one can say one more token."""
    while state.used + state.alive > state.engine.kv_tokens:
        work = state.running[next(reversed(state.running))]
        _release(state, work)
        state.queue.appendleft(work)
        state.waiting += _n_pending(state, work)
        yield work.job.id


def _release(state: State, work: _Work) -> None:
    """Take a job out of the running, with what it holds; what it has said stays in `made`."""
    n, pending = _n_pending(state, work), _pending(state, work)
    state.used -= _held(state, work)
    state.alive -= n
    state.promised -= n * work.promise
    for choice in pending:
        work.made[choice] = made = _made(state, work, choice)
        if work.ends[choice] >= 0:
            state.context -= work.job.prompt_tokens + made
            work.ends[choice] = -1
    state.running.pop(work.job.id, None)
    state.opening = None if state.opening is work else state.opening


def _next_end(state: State) -> int:
    """The number of the decode step that next completes a choice."""
    while not _is_current(state, state.ends[0]):
        heappop(state.ends)
    return state.ends[0][0]


def _is_current(state: State, end: tuple[int, int, int, str]) -> bool:
    """Whether an entry of the heap still says what will happen: its job may have been aborted or retracted since."""
    at, order, choice, id = end  # noqa: A001
    work = state.known.get(id)
    return work is not None and work.order == order and work.ends[choice] == at


def _complete(state: State) -> list[tuple[_Work, int]]:
    """Who said the last token in the steps just taken."""
    over = list[tuple[int, int, int, str]]()
    while state.ends and state.ends[0][0] <= state.steps:
        end = heappop(state.ends)
        if _is_current(state, end) and over[-1:] != [end]:  # retracted and let in again, it may stand there twice
            over.append(end)
    return [(state.known[id], choice) for _, _, choice, id in over]  # noqa: A001


def _leave(state: State, done: list[tuple[_Work, int]]) -> tuple[tuple[tuple[str, int], ...], tuple[str, ...]]:
    """Let complete choices go, and jobs with their last choice: (ended, finished)."""
    for work, choice in done:
        _end(state, work, choice)
    ended = tuple((work.job.id, choice) for work, choice in done if work.job.answers[choice])
    gone = tuple(dict.fromkeys(work.job.id for work, _ in done if not _pending(state, work)))
    for id in gone:  # noqa: A001
        state.used -= state.known.pop(id).job.prompt_tokens
        del state.running[id]
    return ended, gone


def _end(state: State, work: _Work, choice: int) -> None:
    """Free what one complete choice held, but for the prompt that it shares."""
    whole = work.job.answers[choice]
    state.alive -= 1
    state.promised -= work.promise
    state.used -= whole
    if work.ends[choice] >= 0:
        state.context -= work.job.prompt_tokens + whole
    work.made[choice], work.ends[choice] = whole, -1

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
step's time is linear in the context, so k steps take k times the one in the middle).

Plan. The arithmetic is numeric (see `numeric`) and stands in `batching`, over columns that hold the engines of a whole fleet;
this file gives one engine's requests their names. `submit` and `abort` at any instant; then, as long as `step` does not answer
None, let `duration_s` pass and look at what it brought. A Step has all its effects on the State at once: between its begin and
`ends_at`, the State is that of its end. A simulator bounds the jump at the next arrival with `limit=steps_within(state,
seconds)`.

What is not handled. Which prompts the engine remembers (`Job.cached_tokens` says it, and all of a prompt counts as held, though
prompts may share it); what passes beside the engine (`overhead_s`); mixed batches of prefill and decode; speculative decoding;
priorities and pre-emption; data-parallel ranks; choices of one request let in one by one (they come, and are retracted,
together; so a request of more choices than `max_running` is refused). SGLang moves PROMISE between 0.7 and 0.1 with its luck;
here it stays where a calm server ends up, and does not shrink as an answer grows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bestserve.profiles.schema import Engine

from . import batching
from .batching import CLIP, NOBODY, PROMISE, Core, Done, Engines, Limits, Slots
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
    ended: tuple[tuple[str, int], ...]  # (job, choice) that are complete, by the order of their jobs in the batch
    finished: tuple[str, ...]  # jobs whose last choice is complete: they have left
    retracted: tuple[str, ...]  # jobs that went back to the queue for want of memory


def limits_of(*engines: Engine) -> Limits:
    """What some engines can do, as columns."""
    return Limits(
        prefill_rate=[e.prefill_tokens_per_s for e in engines],
        prefill_fixed=[e.prefill_fixed_s for e in engines],
        cached_cost=[e.prefill_cached_cost for e in engines],
        step_fixed=[e.step_fixed_s for e in engines],
        step_per_seq=[e.step_per_seq_s for e in engines],
        step_per_kv=[e.step_per_kv_token_s for e in engines],
        max_running=[float(e.max_running) for e in engines],
        kv_tokens=[float(e.kv_tokens) for e in engines],
        batch_tokens=[float(e.prefill_batch_tokens) for e in engines],
    )


def core_of(limits: Limits, n_slots: int) -> Core:
    """Idle engines that share `n_slots` slots; each may have all of them waiting."""
    n, most = len(limits.max_running), int(max(limits.max_running))
    batch = n * most

    def none(count: int) -> list[int]:
        return [0] * count

    lengths = {"queue": n * n_slots, "running": batch}
    engines = Engines._make(none(lengths.get(name, n)) for name in Engines._fields)
    engines.opening[:] = [NOBODY] * n
    slots = Slots._make(none(n_slots) for _ in Slots._fields)
    slots.free[:] = range(n_slots)
    done = {name: none(batch if name in ("first", "ended", "gone", "retracted") else n) for name in Done._fields}
    return Core(limits, slots, engines, Done(**done | {"duration_s": [0.0] * n}))  # type: ignore[arg-type]


SLOTS = 64
"""Sequences that a State has room for at first; it grows."""


@dataclass(slots=True)
class State:
    """One engine at one instant. Only the functions of this module write to it."""

    engine: Engine
    core: Core = field(init=False)
    jobs: dict[str, int] = field(default_factory=dict)  # those who are here, and their first slots
    names: dict[int, Job] = field(default_factory=dict)  # the other way
    owner: dict[int, tuple[int, int]] = field(default_factory=dict)  # slot -> (first slot of its job, number of its choice)
    orders: int = 0  # jobs ever submitted
    n_free: int = SLOTS

    def __post_init__(self) -> None:
        self.core = core_of(limits_of(self.engine), SLOTS)

    @property
    def steps(self) -> int:
        """Decode steps ever taken."""
        return self.core.engines.steps[0]

    @property
    def waiting(self) -> int:
        """Sequences in the queue."""
        return self.core.engines.waiting[0]

    @property
    def alive(self) -> int:
        """Sequences let in that are not complete."""
        return self.core.engines.alive[0]

    @property
    def used(self) -> int:
        """Tokens of KV memory held."""
        return self.core.engines.used[0]

    @property
    def context(self) -> int:
        """Tokens that a decode step reads, over all sequences."""
        return self.core.engines.context[0]

    @property
    def promised(self) -> int:
        """Tokens set aside for those who run."""
        return self.core.engines.promised[0]

    @property
    def opening(self) -> str | None:
        """The job that was let in and is read in part."""
        job = self.core.engines.opening[0]
        return None if job < 0 else self.names[job].id

    @property
    def running(self) -> list[str]:
        """Jobs that decode, in the order they were let in."""
        return [self.names[job].id for job in self.core.engines.running[: self.core.engines.n_running[0]]]

    @property
    def queue(self) -> list[str]:
        """Jobs that wait, in the order they will be let in."""
        return [self.names[job].id for job in _waiting(self)]


def submit(state: State, job: Job) -> None:
    """Put a job at the end of the queue. Raises QueueFull, or ValueError for a job that could never be served."""
    _check(state, job)
    limit = state.engine.max_queued
    if limit is not None and state.waiting >= limit:
        raise QueueFull(f"{state.waiting} requests wait, and {limit} may")
    ceiling, before, first = max(job.cap or 0, *job.answers), NOBODY, NOBODY
    slots = state.core.slots
    for choice, whole in enumerate(job.answers):
        if state.n_free == 0:
            _grow(state)
            slots = state.core.slots
        slot = batching.take_slot(slots, state.n_free, state.orders, job.prompt_tokens, job.cached_tokens, whole, ceiling)
        state.n_free -= 1
        first = slot if before < 0 else first
        if before >= 0:
            slots.next[before] = slot
        state.owner[slot], before = (first, choice), slot
    state.orders += 1
    state.jobs[job.id], state.names[first] = first, job
    batching.enter(state.core, 0, first)


def abort(state: State, id: str) -> bool:  # noqa: A002  what every face calls it
    """Forget a job wherever it is. False when it is not there (any more)."""
    job = state.jobs.get(id)
    if job is None:
        return False
    batching.leave(state.core, 0, job)
    _forget(state, job)
    return True


def step(state: State, now: float, limit: int = 1) -> Step | None:
    """Do the next thing: one prefill batch, else up to `limit` decode steps with the same company. None when there is nothing."""
    if limit < 1:
        raise ValueError(f"limit must be at least 1, is {limit}")
    if not batching.advance(state.core, 0, limit):
        return None
    done = state.core.done
    gone = done.gone[: done.n_gone[0]]
    brought = Step(
        duration_s=done.duration_s[0],
        ends_at=now + done.duration_s[0],
        prefill_tokens=done.prefill_tokens[0],
        decode_steps=done.decode_steps[0],
        tokens=done.tokens[0],
        first_tokens=_names(state, done.first[: done.n_first[0]]),
        ended=tuple(_choice(state, slot) for slot in done.ended[: done.n_ended[0]]),
        finished=_names(state, gone),
        retracted=_names(state, done.retracted[: done.n_retracted[0]]),
    )
    for job in gone:
        _forget(state, job)
    return brought


def steps_within(state: State, seconds: float) -> int:
    """The least number of decode steps of today's company that take `seconds` or more; at least 1."""
    return batching.steps_until(state.core, 0, seconds)


def idle(state: State) -> bool:
    """Whether there is nobody to serve."""
    return not state.jobs


def load(state: State) -> Load:
    """What the engine would say of itself now. A request of n choices counts n times, as SGLang counts it."""
    limits = state.engine
    return Load(state.alive, state.waiting, state.used, max_running=limits.max_running, kv_tokens=limits.kv_tokens)


def waiting_tokens(state: State) -> int:
    """Tokens still to be read for those who wait, and for the one whose prompt is read in part."""
    opening = state.core.engines.opening[0]
    ahead = state.core.slots.todo[opening] if opening >= 0 else 0
    return ahead + sum(batching.unread(state.core, 0, job) for job in _waiting(state))


def generated(state: State, id: str) -> tuple[int, ...] | None:  # noqa: A002
    """Tokens said so far by each choice of a job; None when it is not there (any more)."""
    job = state.jobs.get(id)
    return None if job is None else _said(state, job)


def progress(state: State) -> Iterator[tuple[str, tuple[int, ...]]]:
    """`generated` of every job that decodes, in the order they were let in."""
    for id in state.running:  # noqa: A001
        yield id, _said(state, state.jobs[id])


def _check(state: State, job: Job) -> None:
    limits = state.engine
    if job.id in state.jobs:
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


def _waiting(state: State) -> list[int]:
    """First slots of the jobs in the queue."""
    engines = state.core.engines
    return [engines.queue[(engines.first[0] + i) % len(engines.queue)] for i in range(engines.n_queue[0])]


def _chain(state: State, job: int) -> Iterator[int]:
    while job >= 0:
        yield job
        job = state.core.slots.next[job]


def _said(state: State, job: int) -> tuple[int, ...]:
    return tuple(batching.said(state.core, 0, slot) for slot in _chain(state, job))


def _names(state: State, jobs: Sequence[int]) -> tuple[str, ...]:
    return tuple(state.names[job].id for job in jobs)


def _choice(state: State, slot: int) -> tuple[str, int]:
    job, choice = state.owner[slot]
    return state.names[job].id, choice


def _forget(state: State, job: int) -> None:
    """Give a job's slots back."""
    del state.jobs[state.names.pop(job).id]
    for slot in list(_chain(state, job)):
        del state.owner[slot]
        state.core.slots.free[state.n_free] = slot
        state.n_free += 1


def _grow(state: State) -> None:
    """Twice the slots. The queue's ring is laid out anew."""
    slots, engines, waiting = state.core.slots, state.core.engines, _waiting(state)
    n = len(slots.order)
    for cells in slots[:-1]:
        cells.extend([0] * n)
    slots.free[:] = [*range(n, 2 * n), *[0] * n]
    state.n_free = n
    engines.queue[:] = [*waiting, *[0] * (2 * n - len(waiting))]
    engines.first[0] = 0

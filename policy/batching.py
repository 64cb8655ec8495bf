"""The arithmetic of continuous batching, over the engines of a fleet at once: see `engine` for the facts and the plan.

A *slot* is one sequence: one choice of one job. The choices of a job are a chain of slots, and its first is what stands for the job in
queue and batch. Slots, queues and batches are columns of whole numbers, so that the same lines run as they are behind an emulator and
compiled in a simulator. Whoever submits takes slots from `free`, fills in what the job asks, and frees them when the job has left.
"""

import math
from typing import NamedTuple

from .numeric import Cells, Column, Counts, numeric

CLIP = 4096
"""Tokens of a ceiling that count when a request asks to be let in (SGLang's SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION)."""

PROMISE = 0.1
"""Share of its clipped ceiling that stays set aside for a sequence that runs (SGLang's new_token_ratio at rest), in [0, 1]."""

NOBODY = -1


class Limits(NamedTuple):
    """What the engines can do, (B,) each: see `profiles.schema.Engine`."""

    prefill_rate: Column
    prefill_fixed: Column
    cached_cost: Column
    step_fixed: Column
    step_per_seq: Column
    step_per_kv: Column
    max_running: Column
    kv_tokens: Column
    batch_tokens: Column


class Slots(NamedTuple):
    """Sequences, (S,) each. What a job has once stands at its first slot."""

    order: Counts  # of submission; of a job
    prompt: Counts  # tokens; of a job
    cached: Counts  # of these, what the engine remembers; of a job
    todo: Counts  # tokens of context still to be read before it decodes; of a job
    asks: Counts  # tokens that each choice may still need when the job wants in; of a job
    promise: Counts  # tokens set aside for each choice that runs; of a job
    whole: Counts  # tokens that the answer will come to
    made: Counts  # tokens said, true while the sequence does not decode
    ends: Counts  # number of the decode step that brings the last token; NOBODY while it does not decode
    next: Counts  # the job's next choice; NOBODY at the last
    free: Counts  # slots that nobody has, the first n_free of them


class Engines(NamedTuple):
    """What each engine holds, (B,) each unless said."""

    steps: Counts  # decode steps ever taken
    waiting: Counts  # sequences in the queue
    alive: Counts  # sequences let in that are not complete
    used: Counts  # tokens of KV memory held
    context: Counts  # tokens that a decode step reads, over all sequences
    promised: Counts  # tokens set aside for those who run
    opening: Counts  # the job that was let in and is read in part; NOBODY
    n_queue: Counts  # jobs that wait
    first: Counts  # where the queue begins in its ring
    queue: Counts  # (B * Q,): a ring of jobs each
    n_running: Counts  # jobs that decode
    running: Counts  # (B * R,): in the order they were let in


class Done(NamedTuple):
    """What the last step of each engine took and brought, (B,) each; lists of slots are (B * R,) with their lengths before them."""

    duration_s: Cells
    prefill_tokens: Counts
    decode_steps: Counts
    tokens: Counts
    n_first: Counts
    first: Counts  # jobs that have their first token now
    n_ended: Counts
    ended: Counts  # sequences that are complete
    n_gone: Counts
    gone: Counts  # jobs whose last choice is complete
    n_retracted: Counts
    retracted: Counts  # jobs that went back to the queue for want of memory


class Core(NamedTuple):
    """Everything about the engines of a fleet."""

    limits: Limits
    slots: Slots
    engines: Engines
    done: Done


@numeric
def enter(core: Core, b: int, job: int) -> None:
    """Put a job at the end of the queue."""
    push(core.engines, b, job)
    core.engines.waiting[b] += n_pending(core, b, job)


@numeric
def leave(core: Core, b: int, job: int) -> None:
    """Forget a job wherever it is: running, read in part, or waiting."""
    engines = core.engines
    if engines.opening[b] == job or runs(engines, b, job):
        release(core, b, job)
        return
    n, size = engines.n_queue[b], len(engines.queue) // len(engines.steps)
    found = False
    for i in range(n):
        here = b * size + (engines.first[b] + i) % size
        if engines.queue[here] == job:
            found = True
        elif found:
            engines.queue[b * size + (engines.first[b] + i - 1) % size] = engines.queue[here]
    engines.n_queue[b] = n - 1
    engines.waiting[b] -= n_pending(core, b, job)


@numeric
def advance(core: Core, b: int, limit: int) -> bool:
    """Do the next thing: one prefill batch, else up to `limit` decode steps with the same company. False when there is nothing."""
    done = core.done
    done.n_first[b], done.n_ended[b], done.n_gone[b], done.n_retracted[b] = 0, 0, 0, 0
    done.prefill_tokens[b], done.decode_steps[b], done.tokens[b] = 0, 0, 0
    if read(core, b):
        return True
    if core.engines.alive[b] == 0:
        return False
    decode(core, b, limit)
    return True


@numeric
def steps_until(core: Core, b: int, seconds: float) -> int:
    """The least number of decode steps of today's company that take `seconds` or more; at least 1."""
    limits, engines = core.limits, core.engines
    first = limits.step_fixed[b] + engines.alive[b] * limits.step_per_seq[b] + engines.context[b] * limits.step_per_kv[b]
    growth = engines.alive[b] * limits.step_per_kv[b] / 2.0
    if seconds <= first:
        return 1
    slope = first - growth
    return math.ceil(2.0 * seconds / (slope + math.sqrt(slope * slope + 4.0 * growth * seconds)))


@numeric
def said(core: Core, b: int, slot: int) -> int:
    """Tokens that one choice has said."""
    slots = core.slots
    if slots.ends[slot] < 0:
        return slots.made[slot]
    return slots.whole[slot] - (slots.ends[slot] - core.engines.steps[b])


@numeric
def n_open(core: Core, b: int, job: int) -> int:
    """The choices of a job that are not complete."""
    n, slot = 0, job
    while slot >= 0:
        n += said(core, b, slot) < core.slots.whole[slot]
        slot = core.slots.next[slot]
    return n


@numeric
def n_pending(core: Core, b: int, job: int) -> int:
    """Sequences that a job counts for: its choices, or one if it only has to be read."""
    return max(n_open(core, b, job), 1)


@numeric
def held(core: Core, b: int, job: int) -> int:
    """Tokens of KV memory that a job holds when its prompt has been read: the prompt once, and what was said."""
    tokens, slot = core.slots.prompt[job], job
    while slot >= 0:
        made = said(core, b, slot)
        tokens += made if made < core.slots.whole[slot] else 0
        slot = core.slots.next[slot]
    return tokens


@numeric
def unread(core: Core, b: int, job: int) -> int:
    """Tokens to be read before a job can speak; each that is remembered counts for its share of one."""
    return held(core, b, job) - math.floor(core.slots.cached[job] * (1.0 - core.limits.cached_cost[b]) + 0.5)


@numeric
def push(engines: Engines, b: int, job: int) -> None:
    """To the end of the queue."""
    size = len(engines.queue) // len(engines.steps)
    engines.queue[b * size + (engines.first[b] + engines.n_queue[b]) % size] = job
    engines.n_queue[b] += 1


@numeric
def push_back(engines: Engines, b: int, job: int) -> None:
    """To the head of the queue."""
    size = len(engines.queue) // len(engines.steps)
    engines.first[b] = (engines.first[b] + size - 1) % size
    engines.queue[b * size + engines.first[b]] = job
    engines.n_queue[b] += 1


@numeric
def head_of(engines: Engines, b: int) -> int:
    """The job at the head of the queue, or NOBODY."""
    if engines.n_queue[b] == 0:
        return NOBODY
    return engines.queue[b * (len(engines.queue) // len(engines.steps)) + engines.first[b]]


@numeric
def runs(engines: Engines, b: int, job: int) -> bool:
    """Whether a job decodes."""
    base = b * (len(engines.running) // len(engines.steps))
    found = False
    for i in range(engines.n_running[b]):
        found = found or engines.running[base + i] == job
    return found


@numeric
def take_out(engines: Engines, b: int, job: int) -> None:
    """Out of those who decode, if it is there; the others keep their order."""
    base = b * (len(engines.running) // len(engines.steps))
    kept = 0
    for i in range(engines.n_running[b]):
        if engines.running[base + i] != job:
            engines.running[base + kept] = engines.running[base + i]
            kept += 1
    engines.n_running[b] = kept


@numeric
def read(core: Core, b: int) -> bool:
    """Fill one prefill batch, and give each choice of those read to the end one more token. False when there is nothing to read."""
    slots, engines, done = core.slots, core.engines, core.done
    base = b * (len(engines.running) // len(engines.steps))
    size = math.floor(core.limits.batch_tokens[b])
    room, asked, n_whole = size, 0, 0
    while room > 0:
        job = engines.opening[b]
        if job < 0:
            job = let_in(core, b, asked)
        if job < 0:
            break
        taken = min(slots.todo[job], room)
        room -= taken
        slots.todo[job] -= taken
        asked += n_pending(core, b, job) * max(slots.asks[job] - slots.promise[job], 0)
        engines.opening[b] = NOBODY if slots.todo[job] == 0 else job
        if slots.todo[job] == 0:
            engines.running[base + engines.n_running[b]] = job
            engines.n_running[b] += 1
            n_whole += 1
    if room == size:
        return False
    for i in range(engines.n_running[b] - n_whole, engines.n_running[b]):
        speak(core, b, engines.running[base + i])
    let_go(core, b)
    done.prefill_tokens[b] = size - room
    done.duration_s[b] = core.limits.prefill_fixed[b] + (size - room) / core.limits.prefill_rate[b]
    return True


@numeric
def let_in(core: Core, b: int, asked: int) -> int:
    """The head of the queue, if it may begin beside those who run and the `asked` tokens of those who begin with it; or NOBODY."""
    slots, engines = core.slots, core.engines
    job = head_of(engines, b)
    if job < 0 or not fits(core, b, job, asked):
        return NOBODY
    engines.first[b] = (engines.first[b] + 1) % (len(engines.queue) // len(engines.steps))
    engines.n_queue[b] -= 1
    n = n_pending(core, b, job)
    engines.waiting[b] -= n
    engines.alive[b] += n
    engines.promised[b] += n * slots.promise[job]
    slots.todo[job] = unread(core, b, job)
    engines.used[b] += held(core, b, job)
    return job


@numeric
def fits(core: Core, b: int, job: int, asked: int) -> bool:
    """Whether there are places and memory for a job. Alone it always fits: whoever submitted it saw to that."""
    engines, n = core.engines, n_pending(core, b, job)
    if engines.used[b] == 0:
        return True
    wanted = held(core, b, job) + n * core.slots.asks[job]
    memory = engines.used[b] + engines.promised[b] + asked + wanted
    return engines.alive[b] + n <= core.limits.max_running[b] and memory <= core.limits.kv_tokens[b]


@numeric
def speak(core: Core, b: int, job: int) -> None:
    """Give each choice of a job the token that its prefill brought; then it decodes, or is complete."""
    slots, engines, done = core.slots, core.engines, core.done
    fresh, some, slot = True, False, job
    while slot >= 0:
        fresh, some = fresh and slots.made[slot] == 0, some or slots.whole[slot] > 0
        slot = slots.next[slot]
    if fresh and some:
        note(done.first, done.n_first, b, job)
    spoke, slot = False, job
    while slot >= 0:
        if slots.made[slot] < slots.whole[slot]:
            spoke = True
            slots.made[slot] += 1
            engines.used[b] += 1
            engines.context[b] += slots.prompt[job] + slots.made[slot]
            slots.ends[slot] = engines.steps[b] + slots.whole[slot] - slots.made[slot]
            done.tokens[b] += 1
            if slots.made[slot] == slots.whole[slot]:
                note(done.ended, done.n_ended, b, slot)
                finish(core, b, job, slot)
        slot = slots.next[slot]
    if not spoke:  # it only had to be read
        finish(core, b, job, job)


@numeric
def decode(core: Core, b: int, limit: int) -> None:
    """Up to `limit` steps: until the first is complete, or the memory is full."""
    limits, engines, done = core.limits, core.engines, core.done
    make_room(core, b)
    n, context = engines.alive[b], engines.context[b]
    room = math.floor(limits.kv_tokens[b]) - engines.used[b]
    steps = min(limit, next_end(core, b) - engines.steps[b], room // n)
    engines.steps[b] += steps
    engines.used[b] += steps * n
    engines.context[b] += steps * n
    middle = context + n * (steps - 1) / 2.0
    done.duration_s[b] = steps * (limits.step_fixed[b] + n * limits.step_per_seq[b] + middle * limits.step_per_kv[b])
    done.decode_steps[b], done.tokens[b] = steps, steps * n
    complete(core, b)
    let_go(core, b)


@numeric
def make_room(core: Core, b: int) -> None:
    """Retract the youngest until every other one can say one more token."""
    engines = core.engines
    base = b * (len(engines.running) // len(engines.steps))
    while engines.used[b] + engines.alive[b] > core.limits.kv_tokens[b]:
        job = engines.running[base + engines.n_running[b] - 1]
        release(core, b, job)
        push_back(engines, b, job)
        engines.waiting[b] += n_pending(core, b, job)
        note(core.done.retracted, core.done.n_retracted, b, job)


@numeric
def release(core: Core, b: int, job: int) -> None:
    """Take a job out of the batch, with what it holds; what it has said stays in `made`."""
    slots, engines = core.slots, core.engines
    n = n_pending(core, b, job)
    engines.used[b] -= held(core, b, job)
    engines.alive[b] -= n
    engines.promised[b] -= n * slots.promise[job]
    slot = job
    while slot >= 0:
        made = said(core, b, slot)
        if slots.ends[slot] >= 0 and made < slots.whole[slot]:
            engines.context[b] -= slots.prompt[job] + made
            slots.made[slot], slots.ends[slot] = made, NOBODY
        slot = slots.next[slot]
    take_out(engines, b, job)
    if engines.opening[b] == job:
        engines.opening[b] = NOBODY


@numeric
def next_end(core: Core, b: int) -> int:
    """The number of the decode step that next completes a choice."""
    slots, engines = core.slots, core.engines
    base = b * (len(engines.running) // len(engines.steps))
    soonest = 1 << 62
    for i in range(engines.n_running[b]):
        slot = engines.running[base + i]
        while slot >= 0:
            if slots.ends[slot] >= 0:
                soonest = min(soonest, slots.ends[slot])
            slot = slots.next[slot]
    return soonest


@numeric
def complete(core: Core, b: int) -> None:
    """Let those end who said the last token in the steps just taken."""
    slots, engines = core.slots, core.engines
    base = b * (len(engines.running) // len(engines.steps))
    for i in range(engines.n_running[b]):
        job = engines.running[base + i]
        slot = job
        while slot >= 0:
            if 0 <= slots.ends[slot] <= engines.steps[b]:
                note(core.done.ended, core.done.n_ended, b, slot)
                finish(core, b, job, slot)
            slot = slots.next[slot]


@numeric
def finish(core: Core, b: int, job: int, slot: int) -> None:
    """Free what one complete choice held, but for the prompt that it shares."""
    slots, engines = core.slots, core.engines
    whole = slots.whole[slot]
    engines.alive[b] -= 1
    engines.promised[b] -= slots.promise[job]
    engines.used[b] -= whole
    if slots.ends[slot] >= 0:
        engines.context[b] -= slots.prompt[job] + whole
    slots.made[slot], slots.ends[slot] = whole, NOBODY


@numeric
def let_go(core: Core, b: int) -> None:
    """Jobs that have no open choice left leave the batch."""
    slots, engines, done = core.slots, core.engines, core.done
    base = b * (len(engines.running) // len(engines.steps))
    kept = 0
    for i in range(engines.n_running[b]):
        job = engines.running[base + i]
        if n_open(core, b, job) == 0:
            engines.used[b] -= slots.prompt[job]
            note(done.gone, done.n_gone, b, job)
        else:
            engines.running[base + kept] = job
            kept += 1
    engines.n_running[b] = kept


@numeric
def note(into: Counts, n: Counts, b: int, what: int) -> None:
    """Add a slot to one of the lists of what a step brought."""
    into[b * (len(into) // len(n)) + n[b]] = what
    n[b] += 1


@numeric
def take_slot(slots: Slots, n_free: int, order: int, prompt: int, cached: int, whole: int, ceiling: int) -> int:
    """Fill the last free slot with a sequence that stands alone. The caller counts one less that is free."""
    slot = slots.free[n_free - 1]
    clipped = min(ceiling, CLIP)
    slots.order[slot], slots.prompt[slot], slots.cached[slot], slots.todo[slot] = order, prompt, cached, 0
    slots.asks[slot], slots.promise[slot] = clipped, math.ceil(PROMISE * clipped)
    slots.whole[slot], slots.made[slot], slots.ends[slot], slots.next[slot] = whole, 0, NOBODY, NOBODY
    return slot

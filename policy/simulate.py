"""Virtual time: requests arrive, the fleet is pictured, a policy decides, engines answer. The same books, encoding, decisions, engines,
prices and rewards as live; only the clock and the wires are missing.

Facts
    Between two arrivals nothing is decided, so engines are only brought up to date when somebody arrives. A backend takes its steps one
    after another, and what a step brought is known when it ends. A backend's own report of its load comes at intervals, and is late.

Plan
    A `World` is what changes; a `Scene` is what does not: what arrives, what is true, what is believed, who decides. `play` takes a
    world through some of its arrivals; a copy of a world, made in between, goes on just as the world would have. Outcomes are
    written beside the request they belong to. All of it is numeric (see `numeric`).

    Truth and belief are apart: engines run by `Scene.limits`, decisions are made from `Scene.constants`.

What is not handled
    Requests of several choices; clients that go away.
"""

import math
from typing import NamedTuple

from .batching import Core, Limits, advance, enter, leave, said, steps_until, take_slot
from .books import Kept, add, hear, learn_pace, look, pace_of, rate_after, write
from .circuit import HOLD_S, CircuitRules, fail, probed, succeed, try_out
from .decide import choose
from .encode import N_FEATURES, PAY, QUALITY, TOKENS, TOLD_SHARE, TPOT, TTFT, WORK, Asked, Caps, Seen, fill, to_read, worth_of
from .facts import BRIEF, BRIEF_LENGTH, CUT, KNOWN, WHOLE, Columns, Constants, Floats, Ints, Mask
from .fleet import RATE_S, RECENT
from .heuristics import explore_into
from .inputs import context_of, rows_of
from .numeric import Cells, Counts, FlagCells, numeric
from .policies import Mind, Scratch, think
from .price import PRICE_S, prices
from .reward import late_by, worth_when

PROGRESS = 32
"""Tokens between two reports of progress to the fleet, as in the live relay."""

SHED, DONE, REFUSED, BROKE, OPEN = range(5)
"""How requests end here; OPEN is not at all, yet."""


class Trace(NamedTuple):
    """What arrives, (N,) each; in the order of arrival."""

    at: Floats  # seconds
    prompt: Ints  # tokens
    tokens: Ints  # that an answer would come to if nobody limited it, for a model whose `length_factor` is 1
    task: Ints  # what it truly is
    told: Floats  # (N, T): what the classifier says it is
    mu: Floats  # what is predicted of the length: mean and deviation of its log
    sigma: Floats
    ceiling: Floats  # the client's own; inf
    ttft_s: Floats  # deadlines; inf where one does not bind
    tpot_s: Floats
    e2e_s: Floats
    hard: Mask
    weight: Floats
    session: Ints  # requests of one conversation share a number; -1 for none
    shared: Ints  # tokens at the prompt's beginning that its session's last request has had, answer included


class Truth(NamedTuple):
    """How backends really are, beyond their engines' limits. (B,) each unless said."""

    knowledge: Floats  # (B * KNOWN, T), as `facts.knowledge_of`, but true
    length_factor: Floats  # of an answer, beside other models'
    overhead: Floats  # seconds
    usd_per_prompt_token: Floats  # paid to others
    usd_per_token: Floats
    down_from: Floats  # a backend is gone between these; inf when never
    down_until: Floats
    slow_from: Floats  # and takes `slowness` times as long between these
    slow_until: Floats
    slowness: Floats


class Setting(NamedTuple):
    """How things are run."""

    report_s: float = 0.5  # between two reports of a backend
    late_reports: float = 0.0  # 1: each report is one interval old when it is heard
    shed_worth: float = 0.02  # what a shed earns, as a share of the request's weight
    soft_s: float = 1.0  # see `reward.Objective`
    explore: float = 0.0
    usd_weight: float = 0.0  # reward per USD paid to others


class Scene(NamedTuple):
    """What does not change."""

    trace: Trace
    limits: Limits
    truth: Truth
    constants: Constants  # believed
    knowledge: Floats  # believed
    most: Floats  # requests that may be at a backend at once; inf
    caps: Caps
    rules: CircuitRules
    mind: Mind
    setting: Setting
    draws: Floats  # (N,) uniform


class Tickets(NamedTuple):
    """Open attempts by slot, (S,) each."""

    request: Counts
    backend: Counts
    begun: Cells
    first: Cells  # when the first token came; nan before
    prefill: Cells
    decode: Cells
    kv: Cells
    haste: Cells  # 1 / expected tokens
    worth: Cells  # on time, as expected
    reported: Counts  # tokens of progress
    predicted_first: Cells
    predicted_each: Cells
    pace_first: Cells
    pace_each: Cells
    trial: FlagCells
    cut: FlagCells  # our cap will end it
    told: FlagCells  # it was asked to be short


class Results(NamedTuple):
    """What came of each request, (N,) each. Never read."""

    ending: Counts
    action: Counts  # of the last attempt
    reward: Cells
    quality: Cells  # of the answer; 0 when there was none
    on_time: FlagCells
    ttft_s: Cells
    total_s: Cells
    tokens: Counts
    chance: Cells  # probability with which the action was chosen
    predicted_ttft: Cells
    predicted_tpot: Cells
    ended: Cells  # when


class World(NamedTuple):
    """What changes."""

    core: Core
    kept: Kept
    tickets: Tickets
    busy_until: Cells  # (B,) when the step of each engine ends; inf when it is idle
    settled: Cells  # (B,) the instant up to which each engine was brought
    price: Floats  # (B,)
    said_running: Cells  # (B,) the last snapshot of each backend
    said_waiting: Cells
    said_used: Cells
    value: Floats  # (RECENT, A - 1): what recent asks were worth at each action
    effort: Floats  # (RECENT, A - 1): and the work that each would take
    clock: Cells  # the CLOCKS below
    counter: Counts  # the COUNTS below
    cache_session: Counts  # (B * C,) what each backend's prefix cache holds: a session's context, or -1
    cache_tokens: Counts  # (B * C,)
    cache_used: Cells  # (B * C,) when it was last used


RATE, RATE_AT, NEXT_REPORT, NEXT_PRICE = range(4)
CLOCKS = 4

N_FREE, NEXT, N_RECENT = range(3)
COUNTS = 3
"""Free slots; the next arrival; how many recent asks there have been."""


@numeric
def play(world: World, scene: Scene, results: Results, scratch: Scratch, until: int) -> None:
    """Let requests arrive up to the one numbered `until`, which does not."""
    while world.counter[NEXT] < until:
        i = world.counter[NEXT]
        meet(world, scene, results, scratch, i)
        world.counter[NEXT] = i + 1


@numeric
def finish(world: World, scene: Scene, results: Results, until: float) -> None:
    """Let those who are there come to their end, or to an instant."""
    for b in range(len(world.busy_until)):
        settle(world, scene, results, b, until)


@numeric
def meet(world: World, scene: Scene, results: Results, scratch: Scratch, i: int) -> None:
    """Request i arrives, and the policy chooses."""
    now = scene.trace.at[i]
    asked, worth = arrive(world, scene, results, scratch, i)
    noted = False
    while True:
        seen = picture(world, scene, scratch, asked, worth, now)
        fill(scratch.x, scratch.mask, seen)
        think(scene.mind, scratch, seen, scratch.p)
        if scene.setting.explore > 0.0:
            explore_into(scratch.p, scratch.x, scratch.mask, asked.weight, scene.setting.explore)
        action = choose(scratch.p, scene.draws[i])
        if not noted:
            remember(world, scratch, asked.weight)
            noted = True
        results.action[i], results.chance[i] = action, scratch.p[action]
        if action == len(scratch.p) - 1:
            turn_away(world, scene, results, i)
            return
        b = action // len(scene.caps.tokens)
        if holds(scene, b, i):
            if takes(world, scene, b, now):
                begin(world, scene, results, scratch, i, action, now)
                return
            refuse(world, scene, b, now)
        scratch.able[b] = False  # it has refused; somebody else is asked


@numeric
def arrive(world: World, scene: Scene, results: Results, scratch: Scratch, i: int) -> tuple[Asked, Floats]:
    """Count request i, and read what it asks: in numbers, and what is known of each backend at its task."""
    trace, now, clock = scene.trace, scene.trace.at[i], world.clock
    catch_up(world, scene, results, now)
    clock[RATE] = rate_after(clock[RATE], clock[RATE_AT], now, RATE_S) + 1.0 / RATE_S
    clock[RATE_AT] = now
    asked = Asked(
        float(trace.prompt[i]),
        1.0,
        trace.ceiling[i],
        trace.mu[i],
        trace.sigma[i],
        trace.ttft_s[i],
        trace.tpot_s[i],
        trace.e2e_s[i],
        trace.weight[i],
        scene.setting.usd_weight,
    )
    for b in range(len(world.busy_until)):
        scratch.able[b] = True
        scratch.cached[b] = float(cached_at(world, scene, b, i))
    return asked, worth_of(scene.knowledge, trace.told[i])


@numeric
def consider(world: World, scene: Scene, results: Results, scratch: Scratch, rows: Floats, context: Floats) -> None:
    """Write down what a network reads of the next request, without deciding. Changes the world: give it a copy."""
    i = world.counter[NEXT]
    asked, worth = arrive(world, scene, results, scratch, i)
    seen = picture(world, scene, scratch, asked, worth, scene.trace.at[i])
    fill(scratch.x, scratch.mask, seen)
    rows[:] = rows_of(seen, scratch.x, scratch.mask)
    context[:] = context_of(seen, rows, scratch.x, scratch.mask)


@numeric
def catch_up(world: World, scene: Scene, results: Results, now: float) -> None:
    """Bring engines, reports and prices up to an instant."""
    clock = world.clock
    while min(clock[NEXT_REPORT], clock[NEXT_PRICE]) <= now:
        at = min(clock[NEXT_REPORT], clock[NEXT_PRICE])
        for b in range(len(world.busy_until)):
            settle(world, scene, results, b, at)
        if at == clock[NEXT_REPORT]:
            report(world, scene, at)
            clock[NEXT_REPORT] = at + scene.setting.report_s
        else:
            reprice(world, at)
            clock[NEXT_PRICE] = at + PRICE_S
    for b in range(len(world.busy_until)):
        settle(world, scene, results, b, now)


@numeric
def picture(world: World, scene: Scene, scratch: Scratch, asked: Asked, worth: Floats, now: float) -> Seen:
    """What the proxy sees now."""
    into = scratch.look
    look(into, world.kept, scene.constants.max_running, scene.most, now)
    fleet = Columns(
        now,
        rate_after(world.clock[RATE], world.clock[RATE_AT], now, RATE_S),
        into.usable,
        into.held,
        into.in_flight,
        into.prefill_tokens,
        into.decode_tokens,
        into.kv_tokens,
        into.haste,
        into.worth,
        into.writing,
        into.written,
        into.writing_s,
        into.places,
        into.report_age_s,
        world.price,
        into.pace_first,
        into.pace_each,
    )
    return Seen(asked, scene.caps, fleet, scene.constants, worth, scratch.able, scratch.cached)


@numeric
def remember(world: World, scratch: Scratch, weight: float) -> None:
    """Keep what this ask would get and cost, for prices."""
    n = world.counter[N_RECENT]
    for a in range(len(scratch.p) - 1):
        world.value[n % RECENT, a] = weight * scratch.x[a * N_FEATURES + QUALITY] - scratch.x[a * N_FEATURES + PAY]
        world.effort[n % RECENT, a] = scratch.x[a * N_FEATURES + WORK]
    world.counter[N_RECENT] = n + 1


@numeric
def reprice(world: World, now: float) -> None:
    """Let prices follow demand."""
    n = min(world.counter[N_RECENT], RECENT)
    rate = rate_after(world.clock[RATE], world.clock[RATE_AT], now, RATE_S)
    after = prices(world.price, world.value[:n], world.effort[:n], rate)
    for b in range(len(world.price)):
        world.price[b] = after[b]


@numeric
def is_down(scene: Scene, b: int, now: float) -> bool:
    """Whether a backend is gone."""
    return bool(scene.truth.down_from[b] <= now < scene.truth.down_until[b])


@numeric
def takes(world: World, scene: Scene, b: int, now: float) -> bool:
    """Whether a backend takes a request: it is there, and a slot is free."""
    return not is_down(scene, b, now) and world.counter[N_FREE] > 0


@numeric
def holds(scene: Scene, b: int, i: int) -> bool:
    """Whether a backend's memory can hold request i and a word of an answer. To say no is no failure."""
    return bool(scene.trace.prompt[i] + 1 < scene.limits.kv_tokens[b])


@numeric
def refuse(world: World, scene: Scene, b: int, now: float) -> None:
    """A backend that is gone fails; one that is full only holds back."""
    circuits = world.kept.circuits
    if is_down(scene, b, now):
        trial = try_out(circuits, scene.rules, b, now)
        fail(circuits, scene.rules, b, now)
        if trial:
            circuits.trial_until[b] = -math.inf
    else:
        circuits.held_until[b] = now + HOLD_S


@numeric
def turn_away(world: World, scene: Scene, results: Results, i: int) -> None:
    """A request is shed."""
    earned = scene.trace.weight[i] * scene.setting.shed_worth
    results.ending[i], results.reward[i], results.ended[i] = SHED, earned, scene.trace.at[i]
    results.quality[i], results.on_time[i], results.tokens[i] = 0.0, False, 0
    results.ttft_s[i], results.total_s[i] = math.nan, 0.0


@numeric
def begin(world: World, scene: Scene, results: Results, scratch: Scratch, i: int, action: int, now: float) -> None:
    """Give request i to the backend of an action."""
    trace, tickets, kept = scene.trace, world.tickets, world.kept
    n_budgets = len(scene.caps.tokens)
    b, k = action // n_budgets, action % n_budgets
    row = action * N_FEATURES
    free = answer_of(scene, b, k, i)
    end = end_of(scene, b, k, i)
    cap = min(end, trace.ceiling[i])
    tokens = max(math.floor(min(free, cap)), 1)
    ceiling = math.floor(min(cap, max(scene.constants.context[b] - trace.prompt[i], 1.0)))  # without a cap, all the room that there is
    cached = min(cached_at(world, scene, b, i), trace.prompt[i] - 1)
    slot = take_slot(world.core.slots, world.counter[N_FREE], i, trace.prompt[i], cached, tokens, ceiling)
    world.counter[N_FREE] -= 1
    tickets.request[slot], tickets.backend[slot], tickets.begun[slot], tickets.first[slot] = i, b, now, math.nan
    tickets.prefill[slot] = to_read(float(trace.prompt[i]), scratch.cached[b], scene.constants.cached_cost[b])
    tickets.kv[slot] = float(trace.prompt[i])
    tickets.decode[slot], tickets.reported[slot] = scratch.x[row + TOKENS], 0
    tickets.haste[slot], tickets.worth[slot] = 1.0 / scratch.x[row + TOKENS], trace.weight[i] * scratch.x[row + QUALITY]
    tickets.predicted_first[slot], tickets.predicted_each[slot] = scratch.x[row + TTFT], scratch.x[row + TPOT]
    tickets.pace_first[slot], tickets.pace_each[slot] = pace_of(kept.first, b, now), pace_of(kept.each, b, now)
    tickets.trial[slot] = try_out(kept.circuits, scene.rules, b, now)
    tickets.cut[slot] = free > end and end < trace.ceiling[i]
    tickets.told[slot] = scene.caps.told[k]
    results.predicted_ttft[i], results.predicted_tpot[i] = scratch.x[row + TTFT], scratch.x[row + TPOT]
    results.ending[i] = OPEN
    add(kept.open, b, 1.0, tickets.prefill[slot], tickets.decode[slot], tickets.kv[slot], tickets.haste[slot], tickets.worth[slot])
    enter(world.core, b, slot)
    if world.busy_until[b] == math.inf:
        start(world, scene, b, now, now)


@numeric
def end_of(scene: Scene, b: int, k: int, i: int) -> float:
    """Tokens at which a budget, or else the backend's memory, ends an answer to request i."""
    return float(min(scene.caps.tokens[k], max(scene.limits.kv_tokens[b] - scene.trace.prompt[i] - 1.0, 1.0)))


@numeric
def answer_of(scene: Scene, b: int, k: int, i: int) -> float:
    """Tokens that backend b would answer request i with under budget k, if no cap cut it."""
    free = float(scene.trace.tokens[i] * scene.truth.length_factor[b])
    if not scene.caps.told[k]:
        return free
    brief = free * float(scene.truth.knowledge[b * KNOWN + BRIEF_LENGTH, scene.trace.task[i]])
    return min(brief, max(TOLD_SHARE * scene.caps.tokens[k], 1.0)) if scene.caps.tokens[k] < math.inf else brief


@numeric
def start(world: World, scene: Scene, b: int, now: float, until: float) -> None:
    """Let an engine take its next step, or as many decode steps as reach an instant."""
    limit = steps_until(world.core, b, until - now) if until < math.inf else 1 << 30
    if not advance(world.core, b, limit):
        world.busy_until[b] = math.inf
        return
    truth = scene.truth
    slow = truth.slowness[b] if truth.slow_from[b] <= now < truth.slow_until[b] else 1.0
    world.busy_until[b] = now + world.core.done.duration_s[b] * slow


@numeric
def settle(world: World, scene: Scene, results: Results, b: int, until: float) -> None:
    """Bring one engine up to an instant."""
    gone = scene.truth.down_from[b]
    if gone < math.inf and world.settled[b] < gone <= until:
        work(world, scene, results, b, gone)
        crash(world, scene, results, b)
    work(world, scene, results, b, until)
    world.settled[b] = until


@numeric
def work(world: World, scene: Scene, results: Results, b: int, until: float) -> None:
    """Take every step that ends by an instant, and begin the one after."""
    while world.busy_until[b] < math.inf and world.busy_until[b] <= until:
        now = world.busy_until[b]
        bring(world, scene, results, b, now)
        start(world, scene, b, now, until)


@numeric
def bring(world: World, scene: Scene, results: Results, b: int, now: float) -> None:
    """What a step brought is there."""
    done, base = world.core.done, b * (len(world.core.done.gone) // len(world.busy_until))
    for j in range(done.n_first[b]):
        slot = done.first[base + j]
        world.tickets.first[slot] = now
        progress(world, b, slot, 1)
    engines = world.core.engines
    running = b * (len(engines.running) // len(world.busy_until))
    for j in range(engines.n_running[b]):
        slot = engines.running[running + j]
        made = said(world.core, b, slot)
        if made - world.tickets.reported[slot] >= PROGRESS:
            progress(world, b, slot, made)
    for j in range(done.n_gone[b]):
        answered(world, scene, results, b, done.gone[base + j], now)
    done.n_first[b], done.n_gone[b] = 0, 0


@numeric
def progress(world: World, b: int, slot: int, made: int) -> None:
    """Tell the books of tokens that have come: what `Fleet.progress` does."""
    tickets = world.tickets
    new = float(made - tickets.reported[slot])
    fewer = min(tickets.decode[slot], new)
    add(world.kept.open, b, 0.0, -tickets.prefill[slot], -fewer, new, 0.0, 0.0)
    begun = tickets.reported[slot] == 0
    write(world.kept.open, b, 1.0 if begun else 0.0, new, tickets.first[slot] if begun else 0.0)
    tickets.prefill[slot] = 0.0
    tickets.decode[slot] -= fewer
    tickets.kv[slot] += new
    tickets.reported[slot] = made


@numeric
def close(world: World, b: int, slot: int) -> None:
    """Take an attempt off the books, and give its slot back."""
    tickets, slots = world.tickets, world.core.slots
    haste, worth = tickets.haste[slot], tickets.worth[slot]
    add(world.kept.open, b, -1.0, -tickets.prefill[slot], -tickets.decode[slot], -tickets.kv[slot], -haste, -worth)
    if tickets.reported[slot] > 0:
        write(world.kept.open, b, -1.0, -float(tickets.reported[slot]), -tickets.first[slot])
    slots.free[world.counter[N_FREE]] = slot
    world.counter[N_FREE] += 1


@numeric
def answered(world: World, scene: Scene, results: Results, b: int, slot: int, now: float) -> None:
    """An answer is complete."""
    tickets, trace, kept = world.tickets, scene.trace, world.kept
    i, tokens = tickets.request[slot], float(world.core.slots.whole[slot])
    ttft = tickets.first[slot] - tickets.begun[slot] + scene.truth.overhead[b]
    total = now - tickets.begun[slot] + scene.truth.overhead[b]
    wait = tickets.begun[slot] - trace.at[i]
    late = late_by(ttft + wait, total + wait, tokens, trace.ttft_s[i], trace.tpot_s[i], trace.e2e_s[i])
    worth = quality_of(scene, b, i, tickets.told[slot], tickets.cut[slot])
    paid = trace.prompt[i] * scene.truth.usd_per_prompt_token[b] + tokens * scene.truth.usd_per_token[b]
    earned = trace.weight[i] * worth * worth_when(late, trace.hard[i], scene.setting.soft_s) - scene.setting.usd_weight * paid
    results.ending[i], results.reward[i], results.quality[i], results.on_time[i] = DONE, earned, worth, late <= 0.0
    results.ttft_s[i], results.total_s[i], results.tokens[i] = ttft + wait, total + wait, world.core.slots.whole[slot]
    results.ended[i] = now
    close(world, b, slot)
    if tickets.trial[slot]:
        kept.circuits.trial_until[b] = -math.inf
    succeed(kept.circuits, b)
    learn_pace(kept.first, b, now, ttft, tickets.predicted_first[slot], tickets.pace_first[slot])
    if tokens > 1.0:
        learn_pace(kept.each, b, now, (total - ttft) / (tokens - 1.0), tickets.predicted_each[slot], tickets.pace_each[slot])
    keep_prefix(world, b, trace.session[i], trace.prompt[i] + world.core.slots.whole[slot], now)


@numeric
def quality_of(scene: Scene, b: int, i: int, told: bool, cut: bool) -> float:
    """What an answer is truly worth if it is on time."""
    row = b * KNOWN + (BRIEF if told else WHOLE) + (CUT - WHOLE if cut else 0)
    return float(scene.truth.knowledge[row, scene.trace.task[i]])


@numeric
def crash(world: World, scene: Scene, results: Results, b: int) -> None:
    """A backend goes: everything at it breaks."""
    now = scene.truth.down_from[b]
    world.busy_until[b] = math.inf
    engines, size = world.core.engines, len(world.core.engines.queue) // len(world.busy_until)
    done, base = world.core.done, b * (len(world.core.done.gone) // len(world.busy_until))
    for j in range(done.n_gone[b]):  # what its last step would have brought
        broken(world, scene, results, b, done.gone[base + j], now)
    done.n_first[b], done.n_gone[b] = 0, 0
    while engines.n_running[b] > 0:
        slot = engines.running[b * (len(engines.running) // len(world.busy_until))]
        leave(world.core, b, slot)
        broken(world, scene, results, b, slot, now)
    if engines.opening[b] >= 0:
        slot = engines.opening[b]
        leave(world.core, b, slot)
        broken(world, scene, results, b, slot, now)
    while engines.n_queue[b] > 0:
        slot = engines.queue[b * size + engines.first[b]]
        leave(world.core, b, slot)
        broken(world, scene, results, b, slot, now)


@numeric
def broken(world: World, scene: Scene, results: Results, b: int, slot: int, now: float) -> None:
    """An attempt ends without an answer."""
    i = world.tickets.request[slot]
    results.ending[i], results.reward[i], results.quality[i], results.on_time[i] = BROKE, 0.0, 0.0, False
    results.total_s[i], results.ttft_s[i], results.tokens[i], results.ended[i] = now - scene.trace.at[i], math.nan, 0, now
    close(world, b, slot)
    fail(world.kept.circuits, scene.rules, b, now)


@numeric
def report(world: World, scene: Scene, now: float) -> None:
    """Every backend says how it is; the proxy hears it now, or one report later."""
    late, engines = scene.setting.late_reports > 0.0, world.core.engines
    for b in range(len(world.busy_until)):
        if is_down(scene, b, now):
            probed(world.kept.circuits, scene.rules, b, now, False)
            continue
        probed(world.kept.circuits, scene.rules, b, now, True)
        running, waiting, used = float(engines.alive[b]), float(engines.waiting[b]), float(engines.used[b])
        if late:
            hear(world.kept.reports, world.kept.open, b, world.said_running[b], world.said_waiting[b], world.said_used[b], now)
        else:
            hear(world.kept.reports, world.kept.open, b, running, waiting, used, now)
        world.said_running[b], world.said_waiting[b], world.said_used[b] = running, waiting, used


@numeric
def cached_at(world: World, scene: Scene, b: int, i: int) -> int:
    """Tokens of request i's prompt that backend b remembers of its session."""
    session = scene.trace.session[i]
    if session < 0:
        return 0
    size = len(world.cache_session) // len(world.busy_until)
    for j in range(b * size, b * size + size):
        if world.cache_session[j] == session:
            return int(min(world.cache_tokens[j], scene.trace.shared[i]))
    return 0


@numeric
def keep_prefix(world: World, b: int, session: int, tokens: int, now: float) -> None:
    """A backend remembers a session's context, in the place of the one that was not used for longest."""
    if session < 0:
        return
    size = len(world.cache_session) // len(world.busy_until)
    oldest = b * size
    for j in range(b * size, b * size + size):
        if world.cache_session[j] == session:
            oldest = j
            break
        if world.cache_used[j] < world.cache_used[oldest]:
            oldest = j
    world.cache_session[oldest], world.cache_tokens[oldest], world.cache_used[oldest] = session, tokens, now

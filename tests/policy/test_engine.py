"""The arithmetic of continuous batching: what a step takes, who gets in, who leaves, and that jumping changes nothing."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bestserve.policy.engine import (
    CLIP,
    Job,
    QueueFull,
    State,
    Step,
    abort,
    generated,
    idle,
    load,
    progress,
    step,
    steps_within,
    submit,
    waiting_tokens,
)
from bestserve.profiles.schema import Engine

ENGINE = Engine(
    prefill_tokens_per_s=1000.0,
    prefill_fixed_s=0.01,
    step_fixed_s=0.010,
    step_per_seq_s=0.001,
    step_per_kv_token_s=0.0001,
    max_running=4,
    kv_tokens=10_000,
    context=4_000,
    prefill_batch_tokens=200,
)


def serving(*jobs: Job, engine: Engine = ENGINE) -> State:
    state = State(engine)
    for job in jobs:
        submit(state, job)
    return state


def must(state: State, limit: int = 1, now: float = 0.0) -> Step:
    done = step(state, now, limit)
    assert done is not None
    return done


def run(state: State, limit: int = 1, now: float = 0.0) -> list[Step]:
    """Step until there is nobody, each step beginning where the one before ended."""
    steps: list[Step] = []
    while (done := step(state, now, limit)) is not None:
        steps.append(done)
        now = done.ends_at
    return steps


def test_an_idle_engine_has_nothing_to_do() -> None:
    """`step` says None, and the load is zero."""
    state = State(ENGINE)

    assert step(state, 0.0) is None
    assert idle(state)
    assert load(state).running == load(state).waiting == load(state).used_tokens == 0


def test_a_prefill_brings_the_first_token_and_decoding_the_others() -> None:
    """One request of 100 tokens that says 3: a prefill and two decode steps, at the times the profile says."""
    state = serving(Job("a", 100, (3,)))

    steps = run(state, now=5.0)

    assert [(one.prefill_tokens, one.decode_steps, one.tokens) for one in steps] == [(100, 0, 1), (0, 1, 1), (0, 1, 1)]
    assert [one.duration_s for one in steps] == pytest.approx([0.11, 0.0211, 0.0212])
    assert steps[-1].ends_at == pytest.approx(5.0 + 0.11 + 0.0211 + 0.0212)
    assert [one.first_tokens for one in steps] == [("a",), (), ()]
    assert steps[-1].ended == (("a", 0),)
    assert steps[-1].finished == ("a",)
    assert idle(state)


def test_an_answer_of_one_token_ends_with_its_prefill() -> None:
    """It never decodes, and holds nothing afterwards."""
    state = serving(Job("a", 10, (1,)))

    done = must(state)

    assert (done.first_tokens, done.finished, done.tokens) == (("a",), ("a",), 1)
    assert load(state).used_tokens == 0


def test_a_job_without_an_answer_is_read_and_leaves() -> None:
    """An embedding has no first token and ends with its prefill."""
    state = serving(Job("a", 10, (0,)))

    done = must(state)

    assert (done.tokens, done.first_tokens, done.ended, done.finished) == (0, (), (), ("a",))
    assert idle(state)
    assert load(state).running == 0


def test_prefill_goes_before_decoding() -> None:
    """A request that comes while others decode is read at the next step."""
    state = serving(Job("a", 10, (50,)))
    must(state)
    submit(state, Job("b", 20, (50,)))

    done = must(state)

    assert done.prefill_tokens == 20
    assert generated(state, "a") == (1,)


def test_a_batch_takes_the_queue_in_order_up_to_its_tokens() -> None:
    """Of three prompts of 90, two and a piece of the third fit in 200 tokens."""
    state = serving(Job("a", 90, (9,)), Job("b", 90, (9,)), Job("c", 90, (9,)))

    first, second = must(state), must(state)

    assert (first.prefill_tokens, first.first_tokens) == (200, ("a", "b"))
    assert (second.prefill_tokens, second.first_tokens) == (70, ("c",))


def test_a_long_prompt_is_read_in_chunks() -> None:
    """450 tokens take three batches; the first token comes with the last; its memory is held from the first."""
    state = serving(Job("a", 450, (2,)), Job("b", 30, (2,)))

    first = must(state)
    held, unread = load(state).used_tokens, waiting_tokens(state)
    second, third = must(state), must(state)

    assert [one.prefill_tokens for one in (first, second, third)] == [200, 200, 80]
    assert (first.first_tokens, second.first_tokens, third.first_tokens) == ((), (), ("a", "b"))
    assert (held, unread) == (450, 250 + 30)


def test_no_more_run_together_than_may() -> None:
    """The fifth of four waits until a place is free."""
    state = serving(*(Job(name, 10, (length,)) for name, length in zip("abcde", (3, 5, 5, 5, 5), strict=True)))

    must(state)
    before = load(state)
    must(state)
    last = must(state)
    after = must(state)

    assert (before.running, before.waiting, before.max_running) == (4, 1, 4)
    assert last.finished == ("a",)
    assert after.first_tokens == ("e",)


def test_a_request_waits_until_prompt_and_ceiling_fit() -> None:
    """With 400 tokens of memory, a request that may say 200 does not join one of 250."""
    engine = replace(ENGINE, kv_tokens=400)
    state = serving(Job("a", 150, (5,), cap=10), Job("b", 100, (5,), cap=200), engine=engine)

    assert must(state).first_tokens == ("a",)
    assert load(state).waiting == 1
    assert [one.first_tokens for one in run(state) if one.first_tokens] == [("b",)]


def test_only_a_clipped_ceiling_counts() -> None:
    """A request that sets no real ceiling asks for CLIP tokens, not for its whole context."""
    engine = replace(ENGINE, kv_tokens=5_000, context=5_000)
    state = serving(Job("a", 50, (5,), cap=5), Job("b", 50, (5,), cap=4_900), engine=engine)

    done = must(state)

    assert CLIP + 50 + 50 + 5 < 5_000
    assert done.first_tokens == ("a", "b")


def test_the_head_of_the_queue_blocks_it() -> None:
    """A small request does not overtake a large one that waits for memory."""
    engine = replace(ENGINE, kv_tokens=400)
    state = serving(Job("a", 100, (9,)), Job("large", 150, (9,), cap=240), Job("small", 5, (9,)), engine=engine)

    done = must(state)

    assert done.first_tokens == ("a",)
    assert load(state).waiting == 2


def test_when_the_memory_runs_out_the_youngest_goes_back_and_keeps_what_it_said() -> None:
    """It returns to the head of the queue, is read again with what it had said, and loses no token."""
    engine = replace(ENGINE, kv_tokens=300, context=290)
    state = serving(Job("a", 20, (200,)), engine=engine)
    must(state)
    submit(state, Job("b", 20, (200,)))

    steps = run(state, limit=1_000)

    back = next(one for one in steps if one.retracted)
    again = next(one for one in steps[steps.index(back) :] if one.prefill_tokens)
    assert back.retracted == ("b",)
    assert again.prefill_tokens > 100
    assert again.first_tokens == ()
    assert sum(one.tokens for one in steps) == 200 + 200 - 1
    assert [name for one in steps for name in one.finished] == ["a", "b"]


def test_a_retracted_job_can_be_aborted() -> None:
    """It is in the queue then, and takes nothing with it."""
    state = serving(Job("a", 20, (200,)), engine=replace(ENGINE, kv_tokens=300, context=290))
    must(state)
    submit(state, Job("b", 20, (200,)))
    while not must(state).retracted:
        pass

    said = generated(state, "b")
    abort(state, "b")

    assert said is not None
    assert said[0] > 50
    assert (load(state).running, load(state).waiting) == (1, 0)
    assert [name for one in run(state) for name in one.finished] == ["a"]


def test_a_full_queue_refuses() -> None:
    """One runs, two wait, the next is refused, and nothing of it stays."""
    engine = replace(ENGINE, max_queued=2)
    state = serving(Job("a", 10, (5,)), engine=engine)
    must(state)
    submit(state, Job("b", 10, (5,)))
    submit(state, Job("c", 10, (5,)))

    with pytest.raises(QueueFull, match="2 requests wait, and 2 may"):
        submit(state, Job("d", 10, (5,)))

    assert load(state).waiting == 2
    assert generated(state, "d") is None


@pytest.mark.parametrize(
    ("job", "match"),
    [
        (Job("a", 3_990, (11,)), "context"),
        (Job("a", 3_000, (900,) * 4), None),
        (Job("a", 1, (3_000,) * 4), "memory"),
        (Job("a", 1, (1,) * 5), "choices"),
        (Job("a", 0, (1,)), "prompt"),
        (Job("a", 1, ()), "prompt"),
        (Job("a", 1, (-1,)), "prompt"),
        (Job("a", 10, (1,), cached_tokens=10), "remembered"),
        (Job("a", 10, (1,), cached_tokens=-1), "remembered"),
    ],
)
def test_what_could_never_be_served_is_refused_at_once(job: Job, match: str | None) -> None:
    """A ValueError names what does not fit."""
    if match is None:
        submit(State(ENGINE), job)
        return

    with pytest.raises(ValueError, match=match):
        submit(State(ENGINE), job)


def test_a_remembered_prompt_is_read_for_its_share_and_held_in_full() -> None:
    """Of 100 tokens 80 are remembered and cost a quarter each: 40 are read, 100 held, and no more than 40 wait."""
    state = serving(Job("a", 100, (3,), cached_tokens=80), engine=replace(ENGINE, prefill_cached_cost=0.25))
    assert waiting_tokens(state) == 40

    first = must(state)

    assert first.prefill_tokens == 40
    assert first.duration_s == pytest.approx(0.05)
    assert load(state).used_tokens == 101


def test_the_same_id_is_not_taken_twice() -> None:
    """Not while the first is there; afterwards it is."""
    state = serving(Job("a", 10, (1,)))

    with pytest.raises(ValueError, match="'a' is there already"):
        submit(state, Job("a", 10, (1,)))

    run(state)
    submit(state, Job("a", 10, (1,)))


def test_choices_share_the_prompt_and_end_one_by_one() -> None:
    """Three choices hold the prompt once, are read three times a step, and count as three."""
    state = serving(Job("a", 100, (2, 4, 3)))

    first = must(state)
    held, reads, running = load(state).used_tokens, state.context, load(state).running
    rest = run(state)

    assert first.tokens == 3
    assert (held, reads, running) == (103, 303, 3)
    assert [one.ended for one in rest] == [(("a", 0),), (("a", 2),), (("a", 1),)]
    assert [one.finished for one in rest] == [(), (), ("a",)]
    assert (state.used, state.context, state.alive, state.promised) == (0, 0, 0, 0)


@pytest.mark.parametrize("when", ["waiting", "opening", "decoding"])
def test_an_aborted_job_leaves_nothing_behind(when: str) -> None:
    """Wherever it was, the counts are those of before, and the others go on."""
    state = serving(Job("other", 10, (50,)))
    must(state)
    submit(state, Job("a", 450, (5, 6)))
    for _ in range({"waiting": 0, "opening": 1, "decoding": 4}[when]):
        must(state)

    assert abort(state, "a")

    assert not abort(state, "a")
    assert (load(state).running, load(state).waiting) == (1, 0)
    assert load(state).used_tokens == 10 + sum(generated(state, "other") or ())
    assert state.context == state.used
    assert [name for one in run(state) for name in one.finished] == ["other"]


def test_progress_names_everyone_who_decodes() -> None:
    """In the order they were let in, with the tokens of each choice."""
    state = serving(Job("a", 10, (9,)), Job("b", 10, (9, 1)))
    must(state)
    must(state, limit=3)

    assert list(progress(state)) == [("a", (4,)), ("b", (4, 1))]


def test_a_jump_needs_a_length() -> None:
    """A limit of no steps is a mistake of the caller."""
    with pytest.raises(ValueError, match="limit"):
        step(State(ENGINE), 0.0, 0)


def test_many_steps_are_one_sum() -> None:
    """A jump of nine steps takes as long as nine steps."""
    one_by_one, at_once = serving(Job("a", 10, (50,)), Job("b", 10, (60,))), serving(Job("a", 10, (50,)), Job("b", 10, (60,)))
    must(one_by_one)
    must(at_once)

    singles = [must(one_by_one) for _ in range(9)]
    jump = must(at_once, limit=9)

    assert jump.duration_s == pytest.approx(sum(one.duration_s for one in singles))
    assert jump.tokens == 18
    assert at_once.used == one_by_one.used


def test_a_jump_stops_when_the_first_is_complete() -> None:
    """Nobody's last token is passed over."""
    state = serving(Job("a", 10, (50,)), Job("b", 10, (5,)))
    must(state)

    done = must(state, limit=1_000)

    assert (done.decode_steps, done.finished) == (4, ("b",))


jobs = st.lists(
    st.tuples(
        st.integers(1, 120),
        st.lists(st.integers(0, 60), min_size=1, max_size=3),
        st.none() | st.integers(0, 80),
        st.integers(0, 12),
    ),
    min_size=1,
    max_size=12,
)
engines = st.builds(
    replace,
    st.just(ENGINE),
    kv_tokens=st.integers(320, 900),
    max_running=st.integers(3, 8),
    prefill_batch_tokens=st.integers(16, 300),
    step_per_kv_token_s=st.sampled_from([0.0, 1e-6, 1e-4]),
)


Scene = tuple[int, tuple[str, ...], tuple[tuple[str, int], ...], tuple[str, ...], float, int, int]
"""Decode steps so far, first tokens or retracted, choices ended, jobs finished, the time, tokens held and read."""


def arrive(state: State, waiting: list[tuple[int, Job]], steps: int) -> None:
    while waiting and waiting[0][0] <= steps:
        submit(state, waiting.pop(0)[1])


def outline(state: State, plan: list[tuple[int, Job]], jump: int) -> list[Scene]:
    """Everything that happens, with jumps of at most `jump` steps; arrivals are counted in decode steps."""
    waiting, now, story = list(plan), 0.0, list[Scene]()
    while True:
        arrive(state, waiting, state.steps)
        ahead = waiting[0][0] - state.steps if waiting else jump
        done = step(state, now, max(1, min(jump, ahead)))
        if done is None:
            if not waiting:
                return story
            submit(state, waiting.pop(0)[1])
            continue
        if done.retracted:
            story.append((state.steps - done.decode_steps, done.retracted, (), (), now, 0, 0))
        now = done.ends_at
        check(state)
        if done.finished or done.first_tokens or done.ended:
            story.append((state.steps, done.first_tokens, done.ended, done.finished, now, state.used, state.context))


def check(state: State) -> None:
    """The counts are those of the parts."""
    load_ = load(state)
    assert 0 <= load_.used_tokens <= state.engine.kv_tokens
    assert 0 <= load_.running <= state.engine.max_running
    assert idle(state) == (not state.queue and not state.running and state.opening is None)
    if state.opening is None:
        said = {name: generated(state, name) or () for name in state.running}
        job = {name: state.names[first] for name, first in state.jobs.items()}
        whole = {name: job[name].answers for name in state.running}
        live = {name: [m for m, w in zip(said[name], whole[name], strict=True) if m < w] for name in said}
        assert load_.running == sum(len(parts) for parts in live.values())
        assert load_.used_tokens == sum(job[name].prompt_tokens + sum(parts) for name, parts in live.items())
        assert state.context == sum(job[name].prompt_tokens + part for name, parts in live.items() for part in parts)


@settings(max_examples=150, deadline=None)
@given(jobs, engines, st.integers(2, 60))
def test_jumping_changes_nothing(arrivals: list[tuple[int, list[int], int | None, int]], engine: Engine, jump: int) -> None:
    """Steps one by one and in jumps tell the same story: who, when, in what order, at what time; and everyone is served."""
    plan, at = list[tuple[int, Job]](), 0
    for number, (prompt, answers, cap, gap) in enumerate(arrivals):
        at += gap
        plan.append((at, Job(str(number), prompt, tuple(answers), cap)))

    slow, fast = State(engine), State(engine)
    expected, found = outline(slow, plan, 1), outline(fast, plan, jump)

    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one[:4] == other[:4]
        assert one[4] == pytest.approx(other[4], rel=1e-6)
        assert one[5:] == other[5:]
    assert (fast.steps, fast.used, fast.context, fast.alive, fast.promised, fast.waiting) == (slow.steps, 0, 0, 0, 0, 0)


@given(st.integers(1, 200), st.floats(0.0, 5.0))
def test_steps_within_reaches_the_time_and_no_further(prompt: int, seconds: float) -> None:
    """That many steps take the time or more; one fewer takes less."""
    state = serving(Job("a", prompt, (3_000,)))
    must(state, limit=1)
    while state.opening is not None or not state.running:
        must(state)

    n = steps_within(state, seconds)
    before = generated(state, "a")
    taken = must(state, limit=n)

    last = ENGINE.step_s(1, state.context - 1)
    assert before == (1,)
    assert taken.duration_s >= seconds - 1e-9
    assert n == 1 or taken.duration_s - last < seconds + 1e-9

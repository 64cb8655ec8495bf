"""What a config has to say of a judge before anything is paid to one."""

import asyncio
import time

import pytest

from bestserve.proxy.config import BadConfig, Config, parse
from bestserve.proxy.judge import Case, Judge
from bestserve.proxy.memory import Memory
from bestserve.proxy.metrics import Metrics
from tests.with_litellm import WITH_LITELLM

pytestmark = [pytest.mark.timeout(240), *WITH_LITELLM]

CAP, PRICE = "spend: {usd_per_day: 1}", "usd_per_million_input: 1, usd_per_million_output: 2"


def read(judge: str, more: str = "replay: {}") -> Config:
    backend = "{name: a, url: 'http://h', model: m, profile: qwen3-1.7b-h100}"
    return parse(f"backends: [{backend}]\njudge: {{{judge}}}\n{more}\n", {}, source="c.yaml")


@pytest.mark.parametrize(
    ("judge", "more", "said"),
    [
        (f"model: openai/gpt-4o, {CAP}", "", "c.yaml:2: judge: needs the replay log, where scores are kept: set replay"),
        (
            "model: openai/gpt-4o",
            "replay: {}",
            "c.yaml:2: judge.spend: is missing: set usd_per_hour or usd_per_day, the most that may be paid",
        ),
        (f"model: openai/x, {PRICE}, spend: {{}}", "replay: {}", "c.yaml:2: judge.spend: is missing: set usd_per_hour"),
        (
            "model: openai/x, usd_per_million_input: 0, usd_per_million_output: 75",
            "replay: {}",
            "c.yaml:2: judge.spend: is missing: set usd_per_hour",
        ),
        (
            "model: openai/x, usd_per_million_input: abc, usd_per_million_output: 0",
            "replay: {}",
            "c.yaml:2: judge.usd_per_million_input: must be a number, is 'abc'",
        ),
        (f"model: openai/x, {CAP}", "replay: {}", "c.yaml:2: judge.model: LiteLLM knows no price of 'openai/x'"),
        (f"model: nobody-x, {PRICE}, {CAP}", "replay: {}", "c.yaml:2: judge.model: LiteLLM knows no provider of 'nobody-x'"),
        (f"model: openai/x, usd_per_million_input: 1, {CAP}", "replay: {}", "c.yaml:2: judge.usd_per_million_output: is missing beside"),
        (f"{CAP}, {PRICE}", "replay: {}", "c.yaml:2: judge.model: is missing"),
        (f"model: openai/gpt-4o, {CAP}, sample: 2", "replay: {}", "c.yaml:2: judge.sample: must be at most 1, is '2'"),
    ],
)
def test_a_judge_needs_a_log_a_price_and_a_cap(judge, more, said):
    """What is missing is told with its key."""
    with pytest.raises(BadConfig) as caught:
        read(judge, more)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("judge", [f"model: openai/gpt-4o, {CAP}", "model: openai/x, usd_per_million_input: 0, usd_per_million_output: 0"])
def test_one_with_a_cap_or_for_nothing_is_taken(judge):
    """A hundredth of the answers, unless said otherwise."""
    config = read(judge)
    assert config.judge is not None
    assert config.judge.sample == 0.01


def test_nobody_judges_by_default():
    """Nor where the config says so."""
    assert (
        parse("backends: [{name: a, url: 'http://h', model: m, profile: qwen3-1.7b-h100}]\njudge: none", {}, source="c.yaml").judge is None
    )


def test_what_goes_wrong_between_two_answers_ends_no_judging(monkeypatch):
    """A judge that cannot be left, or made, costs the answer that was at hand; the next one is judged."""
    asked = []

    class Bench:
        def __init__(self, settings, state_dir) -> None:
            self.settings = settings
            if not asked:
                asked.append(None)
                raise RuntimeError("can't start new thread")

        async def ask(self, case, wall):
            asked.append(case.decision)
            return None, 0.0

        async def leave(self) -> None:
            pass

    async def two() -> None:
        judging = asyncio.create_task(judge.keep_judging())
        for name in ("first", "second"):
            judge.offer(Case(name, "key", b"[]", b"{}", stream=False))
            await asyncio.sleep(0)
        judging.cancel()
        await asyncio.gather(judging, return_exceptions=True)

    monkeypatch.setattr("bestserve.proxy.judge._Bench", Bench)
    metrics = Metrics()
    judge = Judge(metrics, Memory(metrics, wall=time.time, clock=time.monotonic), time.time, lambda: 0.0, time.monotonic)
    judge.adopt(read(f"model: openai/gpt-4o, {CAP}"))
    asyncio.run(two())

    assert asked == [None, "second"]
    assert b'bestserve_judge_total{result="failed"} 1.0' in metrics.exposition()

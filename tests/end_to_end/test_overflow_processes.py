"""The cap on what is spent, between real processes: under load, across SIGKILL and a restart, by what the provider itself has counted."""

import re
import signal
import threading
import urllib.request
from collections.abc import Callable

import orjson
import pytest

from tests.with_litellm import WITH_LITELLM

from .processes import emulated, serving

pytestmark = [pytest.mark.timeout(240), *WITH_LITELLM]

USD_PER_TOKEN, CAP, TOKENS = 1e-3, 2.0, 40
BODY = orjson.dumps({"model": "paid", "max_tokens": TOKENS, "messages": [{"role": "user", "content": "Tell a long story."}]})
REFUSED = 12
"""Refusals in a row, after which a client believes that the cap is spent."""


def metric(base: str, name: str) -> float:
    """The sum of a metric over its labels."""
    with urllib.request.urlopen(f"{base}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*?\}})? (\S+)", text, re.MULTILINE))


def ask(base: str) -> bool:
    """Whether it was answered."""
    request = urllib.request.Request(f"{base}/v1/chat/completions", data=BODY, headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return bool(reply.read())
    except OSError:
        return False


def load(base: str, until: Callable[[int, int], bool], n: int = 8) -> list[threading.Thread]:
    """Clients that ask one after the other, until (answered in all, refused in a row) says so."""
    answered = 0

    def run() -> None:
        nonlocal answered
        refused = 0
        while not until(answered, refused):
            if ask(base):
                answered, refused = answered + 1, 0
            else:
                refused += 1

    threads = [threading.Thread(target=run) for _ in range(n)]
    for thread in threads:
        thread.start()
    return threads


def test_the_cap_holds_across_kill_9(tmp_path):
    """Killed in the middle of eight requests, started again, asked until it buys no more: the provider was paid no more than the cap."""
    with emulated(model="m", time_scale=3) as provider:
        config = tmp_path / "bestserve.yaml"
        config.write_text(
            f"backends: [{{name: paid, engine: litellm, model: openai/m, api_key: k, litellm: {{api_base: '{provider}/v1'}}, "
            f"usd_per_million_input: 0, usd_per_million_output: {USD_PER_TOKEN * 1e6}, spend: {{usd_per_hour: {CAP}}}}}]\n"
            "slo: {ttft_ms: none, tpot_ms: none}\n"
        )
        with serving(config) as (process, base):
            enough = threading.Event()
            clients = load(base, lambda answered, _: enough.is_set() or (answered >= 10 and not enough.set()))
            assert enough.wait(60)
            process.send_signal(signal.SIGKILL)
            for client in clients:
                client.join()
        before = metric(provider, "sglang:generation_tokens_total") * USD_PER_TOKEN

        with serving(config) as (_, base):
            assert round(metric(base, "bestserve_spend_window_usd"), 9) >= round(before, 9) > 0  # sums of the same, in another order
            for client in load(base, lambda _, refused: refused >= REFUSED):
                client.join()
            booked = metric(base, "bestserve_spend_window_usd")
        charged = metric(provider, "sglang:generation_tokens_total") * USD_PER_TOKEN

    assert 0.5 * CAP < round(charged, 9) <= round(booked, 9) <= CAP

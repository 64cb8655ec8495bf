"""What a signal, a kill or a wrong word does to real processes."""

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import openai
import pytest

from .processes import bestserve, config_file, emulated, free_port, get, serving, wait_for


def client(url: str, **how: object) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, **how)


def ask(url: str, **how: object) -> openai.types.chat.ChatCompletion:
    with client(url) as asking:
        return asking.chat.completions.create(model="auto", messages=[{"role": "user", "content": "hi"}], max_tokens=4, **how)


def long_stream(url: str, tokens: int = 150) -> openai.Stream:
    extra = {"ignore_eos": True}
    messages = [{"role": "user", "content": "tell me a long story"}]
    return client(url).chat.completions.create(model="auto", messages=messages, max_tokens=tokens, stream=True, extra_body=extra)


def test_sigterm_lets_a_stream_finish(tmp_path):
    """The stream gets every token, the process ends with 0, and nobody new is let in."""
    with emulated(time_scale=5) as url, serving(config_file(tmp_path, {"a": url})) as (process, base):
        stream = long_stream(base)
        first = next(iter(stream))
        process.send_signal(signal.SIGTERM)
        words = [c.choices[0].delta.content for c in stream if c.choices and c.choices[0].delta.content]

        assert first
        assert len(words) >= 149
        assert process.wait(timeout=10) == 0


def test_sighup_takes_up_a_new_config_without_dropping_a_stream(tmp_path):
    """A backend is added and another removed while a stream of the removed one goes on."""
    with emulated(time_scale=5) as one, emulated() as two:
        path = config_file(tmp_path, {"one": one})
        with serving(path) as (process, base):
            stream = long_stream(base)
            next(iter(stream))
            config_file(tmp_path, {"two": two})
            process.send_signal(signal.SIGHUP)
            wait_until(lambda: "two" in get(f"{base}/health/readiness")["backends"])

            answered = ask(base)
            words = [c.choices[0].delta.content for c in stream if c.choices and c.choices[0].delta.content]

            assert answered.choices[0].message.content
            assert len(words) >= 149
            assert set(get(f"{base}/health/readiness")["backends"]) == {"two"}


def test_a_wrong_config_on_sighup_changes_nothing(tmp_path):
    """The old config goes on, and the log says why the new one was not taken."""
    with emulated() as url:
        path = config_file(tmp_path, {"a": url})
        with serving(path) as (process, base):
            path.write_text("backends: []\nbudgts: 3\n")
            process.send_signal(signal.SIGHUP)
            time.sleep(0.5)

            assert ask(base).choices
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=10)
            assert "budgets" in said


def test_a_killed_backend_is_survived(tmp_path):
    """kill -9 of one of two backends under traffic: every request is answered by the other."""
    with emulated() as two:
        port = free_port()
        with bestserve("emulate", "--profile", "qwen3-1.7b-h100", "--port", str(port)) as victim:
            wait_for(f"http://127.0.0.1:{port}/ready")
            with serving(config_file(tmp_path, {"one": f"http://127.0.0.1:{port}", "two": two})) as (_, base):
                answers = [ask(base) for _ in range(3)]
                victim.send_signal(signal.SIGKILL)
                answers += [ask(base) for _ in range(10)]

                assert all(answer.choices[0].message.content for answer in answers)
                wait_until(lambda: get(f"{base}/health/readiness")["backends"] == {"one": False, "two": True})


def test_a_backend_that_comes_back_is_used_again(tmp_path):
    """After a restart on the same port it is up without anybody's help."""
    port = free_port()
    words = ("emulate", "--profile", "qwen3-1.7b-h100", "--port", str(port))
    with emulated() as two, bestserve(*words) as victim:
        wait_for(f"http://127.0.0.1:{port}/ready")
        path = config_file(tmp_path, {"one": f"http://127.0.0.1:{port}", "two": two}, more="circuit: {open_ms: 300}")
        with serving(path) as (_, base):
            victim.kill()
            victim.wait()
            wait_until(lambda: not get(f"{base}/health/readiness")["backends"]["one"])
            with bestserve(*words):
                wait_until(lambda: get(f"{base}/health/readiness")["backends"]["one"])


def test_several_workers_share_the_port_and_know_of_each_other(tmp_path):
    """Requests spread over processes, metrics are summed, and the death of one is survived."""
    with emulated() as url, serving(config_file(tmp_path, {"a": url}), "--workers", "2") as (process, base):
        for _ in range(12):
            ask(base)
        wait_until(lambda: records_counted(base) == 12)  # a process learns within a second what the others counted

        before = children(process.pid)
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: len(children(process.pid)) == 2 and before[0] not in children(process.pid))
        assert all(ask(base).choices for _ in range(6))

        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0


def records_counted(base: str) -> float:
    """What /metrics says, over all processes."""
    with urllib.request.urlopen(f"{base}/metrics", timeout=5) as page:
        text = page.read().decode()
    (line,) = [line for line in text.splitlines() if line.startswith("bestserve_replay_records_total")]
    return float(line.split()[-1])


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_sigterm_while_a_dead_worker_is_replaced_is_not_lost(tmp_path):
    """A signal in the second between a death and its replacement ends the whole."""
    with emulated() as url, serving(config_file(tmp_path, {"a": url}), "--workers", "2") as (process, _):
        os.kill(children(process.pid)[0], signal.SIGKILL)
        time.sleep(0.3)

        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=15) == 0


def test_a_port_in_use_is_told_in_a_sentence(tmp_path):
    """No trace, and a hint of what to do about it."""
    with emulated() as url, serving(config_file(tmp_path, {"a": url})) as (_, base):
        port = base.rsplit(":", 1)[1]
        said = subprocess.run(
            [sys.executable, "-m", "bestserve.proxy", "serve", "--config", str(tmp_path / "bestserve.yaml"), "--port", port],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert said.returncode == 1
        assert f"cannot listen on 127.0.0.1:{port}" in said.stderr
        assert "Traceback" not in said.stderr


def test_check_says_what_is_wrong_with_the_fleet(tmp_path):
    """A backend that is not there, and one that serves another model, are each named with the remedy; exit code 1."""
    with emulated("qwen3-8b-h100") as url:
        path = config_file(tmp_path, {"wrong": url, "gone": f"http://127.0.0.1:{free_port()}"})
        said = check(path)
        assert said.returncode == 1
        assert "connection refused" in said.stdout
        assert "Qwen/Qwen3-8B" in said.stdout


def test_check_of_a_good_fleet_says_ok_and_what_it_would_do(tmp_path):
    """Exit code 0, the plan for a typical request, and the same as JSON."""
    with emulated() as url:
        path = config_file(tmp_path, {"a": url})
        assert check(path).returncode == 0
        said = check(path, "--json")
        assert '"ok": true' in said.stdout
        assert '"p_on_time"' in said.stdout


def check(path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bestserve.proxy", "check", "--config", str(path), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.timeout(180)
def test_the_demo_answers_the_sdk(tmp_path):
    """`bestserve demo`: chat, stream, embeddings and models through the real client; Ctrl-C ends it and its backends."""
    port = free_port()
    with bestserve("demo", "--port", str(port), "--load", "3") as process:
        base = f"http://127.0.0.1:{port}"
        wait_for(f"{base}/health/readiness", seconds=60)
        wait_until(lambda: all(get(f"{base}/health/readiness")["backends"].values()), seconds=30)
        sdk = client(base)
        assert "emulated" in (
            sdk.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}]).choices[0].message.content or ""
        )
        streamed = sdk.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": "hi"}], max_tokens=5, stream=True, stream_options={"include_usage": True}
        )
        assert [c.usage.completion_tokens for c in streamed if c.usage] == [5]
        assert len(sdk.embeddings.create(model="auto", input="hi").data[0].embedding) > 10
        assert "auto" in [m.id for m in sdk.models.list()]
        process.send_signal(signal.SIGINT)
        killer = threading.Timer(30, process.kill)
        killer.start()
        said = process.stdout.read()
        killer.cancel()
        assert process.wait() == 0
        assert "ready: " in said
        assert "Traceback" not in said


def wait_until(holds, *, seconds: float = 15.0) -> None:
    """Poll until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.05)

"""What a client sees of a real SGLang through the proxy, asked with the official OpenAI SDKs. Run by `make real`."""

import json
import os
import re
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import openai
import pytest
from backend import comes_true  # conftest.py puts this folder on the path

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

NODE = Path(__file__).resolve().parent / "node"
FRANCE: Any = [{"role": "user", "content": "What is the capital of France?"}]
MATTER = {"message", "type", "param", "code"}  # of an error, in OpenAI's shape


def story(**more: Any) -> dict[str, Any]:
    """A body whose answer goes on to the last token allowed, and whose prompt no cache has seen."""
    told = [{"role": "user", "content": f"{uuid4()}: tell a long story about the sea."}]
    return {"model": "smollm2-large", "messages": told, "temperature": 0, "ignore_eos": True, **more}


def direct(url: str, **body: Any) -> httpx.Response:
    """What SGLang itself answers, without the proxy."""
    return httpx.post(url + "/v1/chat/completions", json=body, timeout=90)


def events(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d{3,}", text))


def shows_no_inside(text: str) -> bool:
    return "File " not in text and ".py" not in text and "site-packages" not in text and "Traceback" not in text


# What is answered


def test_the_capital_of_france_is_paris(client):
    """A plain question through `auto` gets the model's answer, and the answer says which model gave it."""
    answer = client.chat.completions.create(model="auto", messages=FRANCE, temperature=0, max_tokens=16)

    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model in {"smollm2", "smollm2-large"}


@pytest.mark.parametrize(
    ("asked", "backend", "model"),
    [
        ("small", "small", "smollm2"),
        ("smollm2", "small", "smollm2"),
        ("large", "large", "smollm2-large"),
        ("smollm2-large", "large", "smollm2-large"),
    ],
)
def test_a_name_pins_the_backend(client, asked, backend, model):
    """A backend's own name and its model's name both lead to it and to no other, and the headers say so."""
    raw = client.chat.completions.with_raw_response.create(
        model=asked, messages=FRANCE, max_tokens=2, extra_headers={"x-request-id": "pinned-1"}
    )

    assert raw.parse().model == model
    assert raw.headers["x-bestserve-backend"] == backend
    assert raw.headers["x-request-id"] == "pinned-1"
    assert raw.headers["x-bestserve-decision"]


def test_a_stream_says_what_a_plain_answer_says(client):
    """At temperature 0 the pieces of a stream add up to the answer given in one."""
    asked: Any = {"model": "smollm2", "messages": FRANCE, "temperature": 0, "max_tokens": 16}
    whole = client.chat.completions.create(**asked)

    chunks = list(client.chat.completions.create(**asked, stream=True))

    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len(chunks) > 4


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_stream_carries_no_usage_that_nobody_asked_for(http, path):
    """No chunk without choices and no count of tokens reaches a client that did not ask for one."""
    what = {"messages": FRANCE} if "chat" in path else {"prompt": "The sea is"}

    with http.stream("POST", path, json={"model": "smollm2", "max_tokens": 4, "stream": True, **what}) as reply:
        lines = list(reply.iter_lines())

    assert all(chunk["choices"] for chunk in events(lines))
    assert not any(chunk.get("usage") for chunk in events(lines))
    assert [line for line in lines if line][-1] == "data: [DONE]"


def test_an_asked_usage_is_exactly_sglangs(client, small):
    """With include_usage the last chunk counts what SGLang counts for the same request, streamed or not."""
    asked: Any = {"model": "smollm2", "messages": FRANCE, "temperature": 0, "max_tokens": 6}
    told = direct(small.url, **asked).json()["usage"]

    *_, last = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    plain = client.chat.completions.create(**asked)

    assert last.choices == []
    for usage in (last.usage, plain.usage):
        counted = (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
        assert counted == (told["prompt_tokens"], told["completion_tokens"], told["total_tokens"])


def test_completions_are_served_too(client):
    """The older endpoint answers, in one and as a stream."""
    asked: Any = {"model": "auto", "prompt": "The capital of France is", "temperature": 0, "max_tokens": 8}
    whole = client.completions.create(**asked)

    pieces = [chunk.choices[0].text for chunk in client.completions.create(**asked, stream=True)]

    assert "Paris" in whole.choices[0].text
    assert "".join(pieces) == whole.choices[0].text


def test_two_answers_to_one_question(client):
    """`n=2` gives two choices, numbered."""
    answer = client.chat.completions.create(model="auto", messages=FRANCE, n=2, max_tokens=8)

    assert sorted(choice.index for choice in answer.choices) == [0, 1]
    assert all(choice.message.content for choice in answer.choices)


def test_a_schema_is_kept(client):
    """An answer asked for under a JSON schema parses, and is of that schema."""
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}, "rivers": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["city", "rivers"],
        "additionalProperties": False,
    }
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}}

    answer = client.chat.completions.create(model="auto", messages=FRANCE, temperature=0, max_tokens=32, response_format=wanted)

    place = json.loads(answer.choices[0].message.content)
    assert set(place) == {"city", "rivers"}
    assert place["city"] in {"Paris", "Rome"}
    assert place["rivers"] in range(10)


def test_a_stop_word_ends_the_answer(client):
    """Nothing of the stop word, nor after it, is in the answer."""
    answer = client.chat.completions.create(model="auto", messages=FRANCE, temperature=0, max_tokens=16, stop=[" is"])

    assert answer.choices[0].message.content == "The capital of France"
    assert answer.choices[0].finish_reason == "stop"


def test_a_field_of_sglangs_own_passes(client):
    """`regex` is unknown to OpenAI and to the proxy, and SGLang obeys it."""
    answer = client.chat.completions.create(model="auto", messages=FRANCE, temperature=0, max_tokens=5, extra_body={"regex": "(yes|no)"})

    assert answer.choices[0].message.content in {"yes", "no"}


def test_log_probabilities_arrive(client):
    """One entry for each token of the answer, each with as many alternatives as asked for."""
    answer = client.chat.completions.create(model="auto", messages=FRANCE, temperature=0, max_tokens=3, logprobs=True, top_logprobs=2)

    told = answer.choices[0].logprobs.content
    assert "".join(token.token for token in told) == answer.choices[0].message.content == "The capital of"
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in told)


def test_a_cap_of_the_clients_own_is_kept(client):
    """`max_tokens` bounds the answer, which then says it was cut."""
    answer = client.chat.completions.create(model="auto", messages=FRANCE, temperature=0, max_tokens=3)

    assert answer.usage.completion_tokens == 3
    assert answer.choices[0].finish_reason == "length"


def test_the_models_are_listed(client):
    """The alias stands among the models one may ask for."""
    assert "auto" in {model.id for model in client.models.list()}


def test_the_node_sdk_gets_the_same(proxy):
    """The official SDK for Node asks, streams, gets a schema kept, an error told and a stream given up."""
    node = shutil.which("node")
    if node is None or not (NODE / "node_modules" / "openai").is_dir():
        pytest.fail("the OpenAI SDK for Node is not here: install Node 18 or newer, then run `make real` again")

    ran = subprocess.run(
        [node, "--test", str(NODE / "sdk.test.mjs")],
        env={**os.environ, "BASE_URL": proxy.url + "/v1"},  # noqa: TID251  handed on, not read
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr


# What is refused


def test_a_body_that_is_no_json_is_refused_in_openais_words(http):
    """400 in OpenAI's shape, with nothing in it of where the code lies."""
    reply = http.post(
        "/v1/chat/completions",
        content=b'{"model": "smollm2", "messages": [',
        headers={"content-type": "application/json"},
    )

    assert reply.status_code == 400
    assert set(reply.json()) == {"error"}
    assert set(reply.json()["error"]) >= MATTER
    assert shows_no_inside(reply.text)


def test_what_sglang_cannot_read_is_told_without_its_paths(client):
    """SGLang's own complaint about a field comes through as a 400, less the place in its code."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="smollm2", messages=FRANCE, max_tokens=2, extra_body={"top_p": "many"})

    assert set(refused.value.response.json()["error"]) >= MATTER
    assert shows_no_inside(refused.value.response.text)


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long_is_told_by_how_much(client, large, stream):
    """400 with the prompt's tokens and the most there may be, the very counts that SGLang gives."""
    asked: Any = {"model": "smollm2-large", "messages": [{"role": "user", "content": "sea " * 9000}], "max_tokens": 4}
    told = numbers(direct(large.url, **asked).json()["message"])

    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**asked, stream=stream)

    assert len(told) == 2
    assert told <= numbers(refused.value.response.json()["error"]["message"])


def test_a_model_that_nobody_serves_is_not_found(client):
    """404 in OpenAI's shape, though SGLang itself would answer under any name."""
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="gpt-none", messages=FRANCE, max_tokens=2)

    assert set(refused.value.response.json()["error"]) >= MATTER


def ask_all(client: openai.OpenAI, bodies: list[dict[str, Any]]) -> list[Any]:
    """Ask everything at once; for each the model that answered, or the error."""

    def ask(body: dict[str, Any]) -> Any:
        try:
            answer: Any = client.chat.completions.create(**body)
            return [chunk.model for chunk in answer][-1] if body.get("stream") else answer.model
        except openai.APIError as error:
            return error

    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(ask, bodies))


def test_a_full_queue_is_told_with_a_time_to_come_back(client, all_free):
    """Of many at once at the pinned small one some are refused, streams too, by a status and `retry-after`."""
    bodies = [{"model": "small", "messages": FRANCE, "max_tokens": 16, "stream": n % 2 == 1} for n in range(16)]

    answers = ask_all(client, bodies)

    refusals = [answer for answer in answers if isinstance(answer, openai.APIError)]
    assert "smollm2" in answers
    assert refusals
    for refusal in refusals:
        assert isinstance(refusal, openai.APIStatusError), refusal
        assert refusal.status_code in {429, 503}
        assert float(refusal.response.headers["retry-after"]) > 0
        assert set(refusal.response.json()["error"]) >= MATTER
    assert all_free(20)


def test_auto_spills_over_to_the_large_one(client, all_free):
    """As many at once as the small one cannot hold are all answered when the policy may choose."""
    bodies = [{"model": "auto", "messages": FRANCE, "max_tokens": 16, "stream": n % 2 == 1} for n in range(16)]

    answers = ask_all(client, bodies)

    assert set(answers) <= {"smollm2", "smollm2-large"}, answers
    assert "smollm2-large" in answers
    assert all_free(20)


# What ends early


def test_leaving_amid_a_stream_frees_the_slot(http, large, all_free):
    """SGLang stops generating when the client has gone after a few chunks."""
    with http.stream("POST", "/v1/chat/completions", json=story(stream=True, max_tokens=800)) as reply:
        lines = reply.iter_lines()
        pieces = [line for _, line in zip(range(8), lines, strict=False)]
        running = large.load()["running"]
        lines.close()

    assert events(pieces)
    assert running == 1
    assert all_free(5)


def test_leaving_before_the_first_token_ends_the_request(http, large, all_free):
    """SGLang gives a request up whose client left while the prompt was read; it answers not one token more."""
    long = [{"role": "user", "content": f"{uuid4()} " + "the sea " * 600}]
    body = story(messages=long, stream=True, max_tokens=800)
    before = large.aborted()

    with (
        pytest.raises(httpx.ReadTimeout),
        http.stream("POST", "/v1/chat/completions", json=body, timeout=httpx.Timeout(5, read=0.3)) as reply,
    ):
        reply.read()

    assert comes_true(lambda: large.aborted() == before + 1, 15)
    assert all_free(5)


def test_leaving_a_plain_request_frees_the_slot(http, large, all_free):
    """SGLang stops as well for a client that gives up on an answer it wanted in one."""
    before = large.aborted()

    with ThreadPoolExecutor(1) as pool:
        gone = pool.submit(http.post, "/v1/chat/completions", json=story(max_tokens=800), timeout=3)
        ran = comes_true(lambda: large.load()["running"] == 1, 3)
        assert isinstance(gone.exception(), httpx.ReadTimeout)

    assert ran
    assert comes_true(lambda: large.aborted() == before + 1, 10)
    assert all_free(5)


def test_a_proxy_told_to_end_finishes_its_stream(another_proxy):
    """After SIGTERM the running stream goes on to its last token, and the process exits with 0."""
    body = story(stream=True, max_tokens=32, stream_options={"include_usage": True})

    with httpx.stream("POST", another_proxy.url + "/v1/chat/completions", json=body, timeout=60) as reply:
        lines = reply.iter_lines()
        seen = [next(lines) for _ in range(6)]
        another_proxy.process.send_signal(signal.SIGTERM)
        seen += lines

    assert seen[-1] == "data: [DONE]" or seen[-2] == "data: [DONE]"
    assert events(seen)[-1]["usage"]["completion_tokens"] == 32
    assert another_proxy.process.wait(30) == 0


@pytest.fixture
def dead(small) -> Any:
    """The small server, killed without a word; started again for whoever comes next."""
    small.kill()
    yield small
    if small.process.poll() is not None:
        small.start()
        small.wait_until_ready()


def test_a_dead_backend_is_stepped_around_until_it_is_back(client, dead, all_free):
    """With one SGLang killed every `auto` is answered by the other; the pinned one is told 502 or 503, and heals."""
    bodies = [{"model": "auto", "messages": FRANCE, "max_tokens": 4} for _ in range(4)]

    answers = [ask_all(client, [body])[0] for body in bodies] + ask_all(client, bodies)
    (pinned,) = ask_all(client, [{"model": "small", "messages": FRANCE, "max_tokens": 4}])

    assert answers == ["smollm2-large"] * 8
    assert isinstance(pinned, openai.APIStatusError)
    assert pinned.status_code in {502, 503}
    assert set(pinned.response.json()["error"]) >= MATTER

    dead.start()
    dead.wait_until_ready()
    assert comes_true(lambda: ask_all(client, [{"model": "small", "messages": FRANCE, "max_tokens": 4}]) == ["smollm2"], 60)
    assert all_free(10)

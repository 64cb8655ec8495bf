"""What a real vLLM says, and what we make of it. The replies in tests/golden/vllm are as they came."""

import re
from pathlib import Path

import pytest

from bestserve.policy.facts import Load
from bestserve.proxy.dialects.dialect import Said, models_of
from bestserve.proxy.dialects.sse import Splitter
from bestserve.proxy.dialects.vllm import LOAD, METRICS, VLLM, load_of, load_of_metrics, over
from bestserve.proxy.errors import Refused, Rejected

GOLDEN = Path(__file__).parent.parent / "golden" / "vllm"


def reply(name: str) -> tuple[int, bytes]:
    """Status and body of a captured reply."""
    head, _, body = (GOLDEN / f"{name}.txt").read_bytes().partition(b"\r\n\r\n")
    status = re.search(rb"HTTP/1.1 (\d+)", head)
    assert status is not None
    return int(status[1]), body


def test_load_from_metrics():
    """Eleven streams at a server for eight, and the tokens that they hold of 364 blocks of 128."""
    assert load_of_metrics(reply("metrics")[1]) == Load(running=8, waiting=3, used_tokens=1027, kv_tokens=46592)


def test_load_from_load():
    """One number: what is open."""
    assert load_of(reply("load_busy")[1]) == Load(running=11, waiting=0, used_tokens=0)
    assert load_of(reply("load")[1]).running == 0


def test_engines_are_added_up_each_with_its_own_memory():
    """Data-parallel ones share a page; an older version knows no engine."""
    two = b"".join(
        b'vllm:num_requests_running{engine="%d"} %d.0\nvllm:num_requests_waiting{engine="%d"} 1.0\n'
        b'vllm:kv_cache_usage_perc{engine="%d"} 0.5\nvllm:cache_config_info{block_size="16",engine="%d",num_gpu_blocks="%d"} 1.0\n'
        % (i, i + 1, i, i, i, 10 * (i + 1))
        for i in (0, 1)
    )
    assert load_of_metrics(two) == Load(running=3, waiting=2, used_tokens=240, kv_tokens=480)
    assert load_of_metrics(b'vllm:num_requests_running{model_name="x"} 2.0\n') == Load(2, 0, 0)


@pytest.mark.parametrize("text", [b"", b'sglang:num_running_reqs{a="b"} 1', b'vllm:num_requests_running{engine="0"} nan'])
def test_what_are_no_metrics_is_a_value_error(text):
    """Never a number that was not there."""
    with pytest.raises(ValueError, match=r"num_requests_running|finite"):
        load_of_metrics(text)


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"server_load": null}', b"x"])
def test_what_is_no_load_is_a_value_error(body):
    """The same of the other report."""
    with pytest.raises(ValueError, match=r"."):
        load_of(body)


def test_the_better_report_is_asked_for_first():
    """The one that says what waits, and needs no flag."""
    assert VLLM.reports == ((METRICS, load_of_metrics), (LOAD, load_of))


def test_it_says_what_it_is():
    """In the list of its models, with the longest context."""
    models = models_of(reply("models")[1])
    assert [(name, said["owned_by"], said["max_model_len"]) for name, said in models.items()] == [("smollm2", "vllm", 2048)]


@pytest.mark.parametrize("name", ["err_prompt_over_ctx", "err_prompt_over_ctx_stream", "err_completions_over_ctx"])
def test_a_prompt_over_the_context_is_refused_with_the_numbers(name):
    """Another backend may have the room."""
    failure = VLLM.failure_of(*reply(name))
    assert isinstance(failure, Refused)
    assert (failure.reason, failure.limit) == ("context", 2048)
    assert "2049 tokens, 1 more than the longest context here, which is 2048" in str(failure)


def test_a_cap_over_the_context_is_refused_with_the_numbers():
    """Where the cap alone is longer; one that only does not fit beside the prompt is cut by vLLM itself."""
    failure = VLLM.failure_of(*reply("err_maxtokens_over_ctx"))
    assert isinstance(failure, Refused)
    assert (failure.reason, failure.limit, str(failure)) == (
        "context",
        2048,
        "This asks for 5000 tokens; the longest context here is 2048 tokens.",
    )


def test_other_words_are_not_over_the_context():
    """Nothing is guessed."""
    assert over(Said("The prompt is fine.")) is None


@pytest.mark.parametrize(
    ("name", "message", "param"),
    [
        (
            "err_bad_type",
            "Invalid value for 'max_tokens': Input should be a valid integer, unable to parse string as an integer.",
            "max_tokens",
        ),
        ("err_missing_messages", "Invalid value for 'messages': Field required.", "messages"),
        ("err_temp", "temperature must be non-negative, got -1.0.", "temperature"),
        ("err_neg_max", "max_tokens must be at least 1, got -1.", "max_tokens"),
        ("err_empty_messages", "Cannot apply chat template to an empty conversation. Provide at least one message.", None),
    ],
)
def test_a_request_that_is_at_fault_is_rejected(name, message, param):
    """In a client's words, without vLLM's own form around them."""
    failure = VLLM.failure_of(*reply(name))
    assert isinstance(failure, Rejected)
    assert (failure.failure.message, failure.failure.param) == (message, param)


@pytest.mark.parametrize("name", ["err_unknown_model", "err_404", "err_embeddings"])
def test_what_it_does_not_have_is_refused(name):
    """An unknown model, or an endpoint that this model does not offer: somebody else may."""
    failure = VLLM.failure_of(*reply(name))
    assert isinstance(failure, Refused)
    assert failure.reason == "no_such_path"


@pytest.mark.parametrize("name", ["chat_stream", "chat_stream_usage"])
def test_an_answer_is_no_error(name):
    """No event of a real stream is taken for one."""
    body = re.sub(rb"\r\n", b"\n", reply(name)[1])
    assert all(VLLM.error_in(event) is None for event in Splitter().feed(body))

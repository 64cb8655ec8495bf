"""What a real SGLang says, and what we make of it. The replies in tests/golden/sglang are as they came."""

import re
import time
from pathlib import Path

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bestserve.policy.facts import Load
from bestserve.proxy.dialects.dialect import Said, clean, models_of
from bestserve.proxy.dialects.sglang import LOADS, METRICS, SGLANG, Limits, accelerator_of, limits_of, load_of, load_of_metrics, over
from bestserve.proxy.dialects.sse import Splitter, first_of
from bestserve.proxy.errors import Refused, Rejected

GOLDEN = Path(__file__).parent.parent / "golden" / "sglang"
failure_of, error_in = SGLANG.failure_of, SGLANG.error_in


OVER = " more than the longest context here, which is 8192 tokens."


def reply(name: str) -> tuple[int, bytes]:
    """Status and body of a captured reply."""
    head, _, body = (GOLDEN / f"{name}.txt").read_bytes().partition(b"\r\n\r\n")
    status = re.search(rb"HTTP/1.1 (\d+)", head)
    length = re.search(rb"content-length: (\d+)", head)
    assert status is not None
    return int(status[1]), body[: int(length[1])] if length else body.removesuffix(b"\n")


def alone(name: str) -> bytes:
    """A captured body."""
    return (GOLDEN / f"{name}.txt").read_bytes()


def has_path(message: str) -> bool:
    return any(word in message for word in ("File", ".py", "site-packages", "Traceback", "http_server", "sglang/", "line 1870"))


# --- load ---


def test_load_from_loads():
    """Running, waiting, context held, and its own limits."""
    for name in ("v1_loads", "v1_loads_core"):
        assert load_of(reply(name)[1]) == Load(running=0, waiting=0, used_tokens=0, max_running=2500, kv_tokens=40_000)


def test_load_from_metrics():
    """The same from what Prometheus would scrape, less the limit on running requests."""
    assert load_of_metrics(reply("metrics")[1]) == Load(running=0, waiting=0, used_tokens=32, max_running=None, kv_tokens=40_000)


def test_ranks_are_added_up():
    """A backend with data-parallel ranks is one backend."""
    rank = {"num_running_reqs": 3, "num_waiting_reqs": 1, "num_used_tokens": 10, "max_running_requests": 8, "max_total_num_tokens": 100}
    metrics = b"".join(
        b'sglang:num_running_reqs{dp_rank="%d"} 3.0\nsglang:num_queue_reqs{dp_rank="%d"} 1.0\nsglang:num_used_tokens{dp_rank="%d"} 1e1\n'
        % (i, i, i)
        for i in range(2)
    )

    assert load_of(orjson.dumps({"loads": [rank, rank]})) == Load(6, 2, 20, 16, 200)
    assert load_of_metrics(metrics) == Load(6, 2, 20)


def test_a_report_may_say_less():
    """Only what is running and waiting has to be there."""
    assert load_of(b'{"loads":[{"num_running_reqs":1,"num_waiting_reqs":2}]}') == Load(1, 2, 0)
    assert load_of_metrics(b"sglang:num_running_reqs 4\n") == Load(4, 0, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"loads":null}',
        b'{"loads":[null]}',
        b'{"loads":[{}]}',
        b'{"loads":{"a":1}}',
        b'{"loads":[{"num_running_reqs":"1","num_waiting_reqs":0}]}',
        b"<html>",
        reply("err_404")[1],
    ],
)
def test_what_is_no_report_is_a_value_error(body):
    """Whatever stands there."""
    with pytest.raises(ValueError, match=r"."):
        load_of(body)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"vllm:num_requests_running 1\n",
        b"# HELP sglang:num_running_reqs 7\n",
        b"sglang:num_running_reqs 1.2.3\n",
        b"sglang:num_running_reqs 1e999\n",
        b"sglang:num_running_reqs -\n",
    ],
)
def test_what_are_no_metrics_is_a_value_error(text):
    """Other engines' metrics, numbers that are none."""
    with pytest.raises(ValueError, match=r"."):
        load_of_metrics(text)


def test_the_better_report_is_asked_for_first():
    """Each with its reader."""
    assert list(SGLANG.reports) == [(LOADS, load_of), (METRICS, load_of_metrics)]


def test_models():
    """Name and longest context."""
    assert {name: said["max_model_len"] for name, said in models_of(reply("models")[1]).items()} == {"smollm2": 8192}
    assert models_of(b'{"data":[{"id":"x"}]}') == {"x": {"id": "x"}}
    for body in (b"{}", b'{"data":[{}]}', b"[]", b'{"data":1}', b"x"):
        with pytest.raises(ValueError, match=r"."):
            models_of(body)


# --- errors ---


@pytest.mark.parametrize(
    ("name", "message", "param"),
    [
        (
            "err_bad_type",
            "Invalid value for 'max_tokens': Input should be a valid integer, unable to parse string as an integer.",
            "max_tokens",
        ),
        ("err_missing_messages", "Invalid value for 'messages': Field required.", "messages"),
        ("err_malformed", "Invalid value for '31': JSON decode error.", "31"),
        ("err_empty_messages", "Messages cannot be empty.", None),
        ("err_neg_max", "max_new_tokens must be at least 0, got -1.", None),
        ("err_temp", "temperature must be a non-negative finite number, got -3.0.", None),
    ],
)
def test_a_request_that_is_at_fault_is_rejected(name, message, param):
    """The client is told what SGLang says, and nothing of where in its code."""
    failure = failure_of(*reply(name))

    assert isinstance(failure, Rejected)
    assert (failure.failure.message, failure.failure.param, failure.failure.status) == (message, param, 400)
    assert not has_path(failure.failure.message)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("err_prompt_over_ctx", "The prompt has 9031 tokens, 839" + OVER),
        (
            "err_maxtokens_over_ctx",
            "This asks for 100031 tokens (31 in the prompt, 100000 for the answer), 91839" + OVER,
        ),
        (
            "err_generate_over_ctx",
            "This asks for 100001 tokens (1 in the prompt, 100000 for the answer), 91809" + OVER,
        ),
    ],
)
def test_over_the_context_is_a_refusal_that_says_the_numbers(name, numbers):
    """Another backend may have a longer context; if none has, the client learns by how much it was too long."""
    failure = failure_of(*reply(name))

    assert isinstance(failure, Refused)
    assert failure.reason == "context"
    assert str(failure) == numbers
    assert failure.limit == 8192


def test_other_words_are_not_over_the_context():
    """Only what says so."""
    assert over(Said("The prompt is fine.")) is None
    assert over(Said("")) is None


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (503, alone("queue_full"), "queue_full"),
        (503, b"", "status_503"),
        (500, b"Internal Server Error", "status_500"),
        (502, b"<html>nginx</html>", "status_502"),
        (307, b"", "status_307"),
        (204, b"", "status_204"),
        (*reply("err_404"), "no_such_path"),
        (*reply("err_405"), "status_405"),
        (401, b'{"error":"Unauthorized"}', "unauthorized"),
        (403, b"", "unauthorized"),
        (408, b"", "status_408"),
        (429, b'{"error":{"message":"slow down"}}', "rate_limited"),
    ],
)
def test_what_is_not_the_requests_fault_is_refused(status, body, reason):
    """Another backend may do better."""
    failure = failure_of(status, body)

    assert isinstance(failure, Refused)
    assert (failure.reason, failure.status) == (reason, status)


@pytest.mark.parametrize("name", ["queue_full_stream", "evicted_stream"])
def test_a_full_queue_is_found_in_a_stream(name):
    """It comes with a 200, as the first event."""
    failure = error_in(first_of(alone(name)))

    assert isinstance(failure, Refused)
    assert (failure.reason, failure.status) == ("queue_full", 503)


def test_the_request_is_found_at_fault_in_a_stream():
    """A 400 that came with a 200."""
    error = orjson.loads(reply("err_temp")[1])

    failure = error_in(b"data: " + orjson.dumps({"error": error}) + b"\n\n")

    assert isinstance(failure, Rejected)
    assert failure.failure.message == "temperature must be a non-negative finite number, got -3.0."


@pytest.mark.parametrize("name", ["chat_stream", "chat_stream_contusage", "completions_stream"])
def test_an_answer_is_no_error(name):
    """None of its events."""
    events = Splitter().feed(reply(name)[1])

    assert len(events) > 4
    assert [error_in(event) for event in events] == [None] * len(events)


@pytest.mark.parametrize(
    "event",
    [
        b"",
        b"data: [DONE]\n\n",
        b'data: {"choices":[{"delta":{"content":"an \\"error\\": {}"}}]}\n\n',
        b'data: {"error":null,"choices":[]}\n\n',
        b'data: ["error"]\n\n',
        b'data: {"error"\n\n',
        b': "error"\n\n',
    ],
)
def test_what_speaks_of_errors_is_no_error(event):
    """Only a top-level field that is set is one."""
    assert error_in(event) is None


@pytest.mark.parametrize(
    ("error", "status"),
    [(b'{"message":"x","code":503}', 503), (b'{"message":"x","code":"oops"}', 500), (b'{"message":"x"}', 500), (b'"boom"', 500)],
)
def test_an_error_in_a_stream_has_a_status(error, status):
    """Its code where that is one; else it is the backend's fault."""
    failure = error_in(b'data: {"error":' + error + b"}\n\n")

    assert isinstance(failure, Refused)
    assert failure.status == status


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"object":"error","message":"No."}', "No."),
        (b'{"error":{"message":"No."}}', "No."),
        (b'{"error":"No."}', "No."),
        (b'{"detail":"No."}', "No."),
        (b'{"detail":[{"loc":["body","x",0],"msg":"No","input":"secret"},{}]}', "Invalid value for 'x.0': No."),
        (b'{"detail":[{"msg":"No.","input":"secret"}]}', "No."),
        (b'{"detail":[{"loc":["body","x"],"input":"secret"}]}', "The backend gave no reason."),
        (b'{"detail":[7]}', "The backend gave no reason."),
        (b'{"detail":[]}', "The backend gave no reason."),
        (b"No.", "No."),
        (b"", "The backend gave no reason."),
        (b"{}", "The backend gave no reason."),
        (b"[1]", "The backend gave no reason."),
        (b'{"message":""}', "The backend gave no reason."),
        (b'{"message":"Traceback (most recent call last): x"}', "The backend gave no reason."),
        (b'{"message":{"a":1}}', '{"a":1}'),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_every_shape_of_an_error(body, message):
    """There are four, and none at all."""
    failure = failure_of(400, body)

    assert isinstance(failure, Rejected)
    assert failure.failure.message == message


def test_an_errors_own_param_and_code_are_kept():
    """Where they are words."""
    failure = failure_of(400, b'{"error":{"message":"No.","param":"stop","code":"bad_stop"}}')
    numbers = failure_of(400, b'{"error":{"message":"No.","param":7,"code":"400"}}')

    assert isinstance(failure, Rejected)
    assert isinstance(numbers, Rejected)
    assert (failure.failure.param, failure.failure.code) == ("stop", "bad_stop")
    assert (numbers.failure.param, numbers.failure.code) == (None, None)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Cannot open /srv/models/big/config.json now", "Cannot open … now"),
        ("Cannot open '/srv/models'", "Cannot open '…'"),
        ("(/opt/x/y)", "(…)"),
        ("path=/opt/x/y", "path=…"),
        ("file:///srv/models/x.safetensors is gone", "… is gone"),
        ("~/.cache/hub/x is gone", "~… is gone"),
        ('Bad.\n  File "x.py", line 3, in f\n    g()', "Bad."),
        ('File "x.py", line 3', ""),
        ("Bad.\nTraceback (most recent call last):\n ...", "Bad."),
        ("python/sglang/srt/server.py:33 says no", "…:33 says no"),
        ("in lib/site-packages/sglang/x", "in …"),
        ("a/b and 3/4 and and/or, see https://docs.example.org/a/b", "a/b and 3/4 and and/or, see https://docs.example.org/a/b"),
        ("data:image/png;base64,AAAA", "data:image/png;base64,AAAA"),
    ],
)
def test_a_message_is_told_without_files_and_traces(said, told):
    """And otherwise as it was."""
    assert clean(said) == told


FOLDERS = st.lists(st.from_regex(r"[A-Za-z0-9_.@+-]{1,8}", fullmatch=True), min_size=2, max_size=5).map(lambda names: "/" + "/".join(names))
AROUND = st.sampled_from(["", " ", "'", '"', "(", "[", "=", ": ", ", ", "<", "\n", "{"])


@settings(deadline=None)
@given(FOLDERS, AROUND, AROUND, st.sampled_from([400, 422]), st.booleans())
def test_no_path_is_ever_told(path, before, after, status, in_json):
    """Wherever in a message it stands, and in whichever shape that comes."""
    said = f"Something{before or ' '}{path}{after} is wrong"

    failure = failure_of(status, orjson.dumps({"message": said}) if in_json else said.encode())

    assert isinstance(failure, Rejected)
    assert path not in failure.failure.message


@settings(deadline=None)
@given(
    st.integers(400, 599),
    st.binary(max_size=100)
    | st.recursive(
        st.none() | st.integers(-(2**63), 2**63) | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["error", "message", "detail", "code", "param"]), inner, max_size=3)
        ),
    ).map(orjson.dumps),
)
@example(400, b'{"message":"' + b"a/" * 100_000 + b'"}')
@example(400, b'{"message":"' + b"'loc': ('body', " * 20_000 + b'"}')
@example(400, b"a" * 1_000_000)
def test_any_reply_is_a_failure_that_can_be_told(status, body):
    """Nothing is ever raised, nothing is ever long or slow."""
    began = time.perf_counter()

    failure = failure_of(status, body)

    message = failure.failure.message if isinstance(failure, Rejected) else str(failure)
    assert len(message) < 10_000
    assert time.perf_counter() - began < 1
    error_in(b"data: " + body + b"\n\n")


TOLD = {  # of 556 fields that a real 0.5.23 says at /server_info, those that are read, as it said them on a CPU
    "context_length": None,
    "max_running_requests": 16,
    "max_queued_requests": None,
    "chunked_prefill_size": 4096,
    "max_prefill_tokens": 16384,
    "disable_radix_cache": False,
    "tp_size": 1,
    "pp_size": 1,
    "dp_size": 1,
    "device": "cpu",
    "max_total_num_tokens": 20000,
    "internal_states": [{"effective_max_running_requests_per_dp": 16}],
    "version": "0.5.23",
}


def test_what_a_backend_says_of_itself_is_read() -> None:
    """Its limits; the context, which is null unless one was set, is left open."""
    limits = limits_of(orjson.dumps(TOLD))

    assert limits == Limits(16, None, 20_000, None, 4_096, remembers=True, version="0.5.23", device="cpu", n_gpus=1)


@pytest.mark.parametrize(
    ("told", "field", "value"),
    [
        ({"chunked_prefill_size": -1}, "prefill_batch_tokens", 16_384),
        ({"max_running_requests": None}, "max_running", 16),
        ({"max_running_requests": None, "internal_states": None}, "max_running", None),
        ({"tp_size": 4, "dp_size": 2}, "n_gpus", 8),
        ({"device": "cuda"}, "device", None),
        ({"disable_radix_cache": True}, "remembers", False),
        ({"context_length": 4096, "max_queued_requests": 32}, "context", 4_096),
    ],
)
def test_what_it_says_otherwise_is_read_too(told, field, value) -> None:
    """Unchunked prefill has another bound; an effective limit stands in; ranks are multiplied; "cuda" names no GPU."""
    assert getattr(limits_of(orjson.dumps({**TOLD, **told})), field) == value


@pytest.mark.parametrize("body", [b"[]", b'"x"', b'{"internal_states": 3}', b"nothing"])
def test_what_is_no_server_info_is_refused(body) -> None:
    """A ValueError, whatever else it is."""
    with pytest.raises(ValueError):
        limits_of(body)


def test_the_accelerator_is_told_where_it_is_known() -> None:
    """On a CPU it is null."""
    assert accelerator_of(reply("v1_loads")[1]) is None
    assert accelerator_of(b'{"accelerator": "NVIDIA H100 80GB HBM3"}') == "NVIDIA H100 80GB HBM3"
    assert accelerator_of(b"nothing") is None

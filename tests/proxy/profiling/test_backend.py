"""What the backend says of itself, in which way it can be asked, and whether others use it."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from bestserve.proxy.dialects.sglang import SGLANG
from bestserve.proxy.errors import Refused
from bestserve.proxy.profiling import backend
from bestserve.proxy.profiling.backend import Lookout, Target, reach
from bestserve.proxy.profiling.refuse import CannotMeasure

INFO = {
    "max_running_requests": 16,
    "max_total_num_tokens": 20_000,
    "chunked_prefill_size": 4_096,
    "context_length": None,
    "disable_radix_cache": False,
    "version": "0.5.23",
    "device": "cuda",
    "tp_size": 2,
    "dp_size": 2,
}
MODELS = {"data": [{"id": "m", "owned_by": "sglang", "max_model_len": 8_192}]}


def loads(running: int, waiting: int = 0, **more: Any) -> dict[str, Any]:
    return {"accelerator": "NVIDIA H100", "loads": [{"num_running_reqs": running, "num_waiting_reqs": waiting, **more}]}


class Upstream:
    """A backend that answers GETs from a table, and streams what `says` makes of a request."""

    url = "http://backend"

    def __init__(self, pages: dict[str, Any], says: Callable[[str, dict[str, Any]], list[bytes] | int]) -> None:
        self.pages, self.says, self.asked = pages, says, list[str]()

    async def get(self, path: str) -> tuple[int, bytes]:
        page = self.pages.get(path.partition("?")[0])
        page = next(page) if isinstance(page, Iterator) else page
        return (404, b"") if page is None else (200, orjson.dumps(page))

    async def exchange(self, _: str, path: str, raw: bytes, *, stream: bool) -> "Reply":
        assert stream
        self.asked.append(path)
        said = self.says(path, orjson.loads(raw))
        return Reply(said, []) if isinstance(said, int) else Reply(200, said)


class Reply:
    def __init__(self, status: int, pieces: list[bytes]) -> None:
        self.status, self.pieces = status, pieces

    async def whole(self) -> bytes:
        return b'{"object":"error","message":"no such thing"}'

    async def pump(self, sink: Callable[[bytes], None]) -> None:
        for piece in self.pieces:
            sink(piece)

    def close(self) -> None:
        pass


def events(prompt_tokens: int, tokens: int, *, counted: bool = True) -> list[bytes]:
    usage = {"prompt_tokens": prompt_tokens}
    said = [{"choices": [{"text": "x"}], **({"usage": {**usage, "completion_tokens": i}} if counted else {})} for i in range(1, tokens + 1)]
    last = {"choices": [], "usage": {**usage, "completion_tokens": tokens}}
    return [b"data: " + orjson.dumps(one) + b"\n\n" for one in (*said, last)]


def sglang(path: str, asked: dict[str, Any]) -> list[bytes] | int:
    assert path == "/v1/completions"
    return events(len(asked["prompt"]), asked["max_tokens"])


def target(says: Callable[[str, dict[str, Any]], list[bytes] | int] = sglang, **pages: Any) -> Target:
    known = {"/server_info": INFO, "/v1/models": MODELS, "/v1/loads": loads(0)}
    upstream: Any = Upstream({**known, **{f"/{name.replace('__', '/')}": page for name, page in pages.items()}}, says)
    return Target(upstream, "m")


def test_an_sglang_says_its_limits() -> None:
    """Context from the list of models where none was set; GPUs are those of all ranks; token numbers are the way to ask."""
    here = target()

    limits = asyncio.run(reach(here))

    assert (limits.max_running, limits.kv_tokens, limits.prefill_batch_tokens, limits.context) == (16, 20_000, 4_096, 8_192)
    assert (limits.device, limits.n_gpus, limits.remembers, limits.version) == ("NVIDIA H100", 4, True, "0.5.23")
    assert here.way.name == "completions of token numbers"


def test_its_load_report_knows_better() -> None:
    """What /v1/loads says of the limits is summed over ranks, and wins."""
    report = loads(0, max_running_requests=2_500, max_total_num_tokens=40_000)

    limits = asyncio.run(reach(target(v1__loads=report)))

    assert (limits.max_running, limits.kv_tokens) == (2_500, 40_000)


def test_a_plain_backend_is_asked_plainly() -> None:
    """No limits, no token numbers, no extras: text for chat, stretched to the tokens that it counts."""

    def says(path: str, asked: dict[str, Any]) -> list[bytes] | int:
        if "ignore_eos" in asked or path != "/v1/chat/completions":
            return 400
        return events(2 * len(asked["messages"][0]["content"].split()), asked["max_tokens"], counted=False)

    here = target(says, server_info=None, v1__models=None, v1__loads=None)

    limits = asyncio.run(reach(here))

    assert limits == type(limits)()
    assert (here.way.name, here.way.tokens_per_word) == ("chat, plain", 2.0)


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (lambda _, asked: events(96, 5), "asked for 12 tokens, 5 came"),
        (lambda _, asked: [b"".join(events(96, 12)[-2:])], "all tokens came at once"),
        (lambda _, asked: [], "nothing came"),
        (lambda _, asked: 500, "no such thing"),
        (lambda _, asked: [b'data: {"choices":[{"text":"x"}]}\n\n'] * 12, "does not say its usage"),
    ],
    ids=["too few tokens", "buffered", "nothing", "errors", "no usage"],
)
def test_a_backend_that_shows_no_lengths_or_times_is_refused(says: Any, reason: str) -> None:
    """With what was wrong in each way of asking."""
    with pytest.raises(CannotMeasure, match=reason):
        asyncio.run(reach(target(says)))


def test_another_model_is_refused_with_those_that_are_there() -> None:
    """An engine answers to any name; we do not."""
    with pytest.raises(CannotMeasure, match="serves other, not 'm'"):
        asyncio.run(reach(target(v1__models={"data": [{"id": "other"}]})))


def test_nobody_there_is_told_once() -> None:
    """Not for each way of asking."""

    def gone(*_: Any) -> int:
        raise Refused("connect_failed", message="ConnectionRefusedError")

    with pytest.raises(CannotMeasure, match="http://backend cannot be asked: ConnectionRefusedError"):
        asyncio.run(reach(target(gone)))


def looked(pages: dict[str, Any], ours: int = 0) -> tuple[Lookout, int | None]:
    lookout = Lookout(target(**pages))
    lookout.target.speaks = SGLANG
    for _ in range(ours):
        lookout.sent()
    return lookout, asyncio.run(lookout.look())


def test_what_is_beyond_ours_is_foreign() -> None:
    """Five run and two wait, three of them are ours."""
    assert looked({"v1__loads": loads(5, 2)}, ours=3)[1] == 4
    assert looked({"v1__loads": loads(2)}, ours=3)[1] == 0


def test_what_was_ours_a_moment_ago_may_still_be_told() -> None:
    """A report is a few steps old: a request that is over counts for some seconds."""
    now = [100.0]
    lookout, _ = looked({"v1__loads": loads(1)})
    lookout.target.clock = lambda: now[0]
    lookout.sent()
    lookout.over()
    assert asyncio.run(lookout.look()) == 0

    now[0] += 60.0
    lookout.sent()
    lookout.over()
    now[0] += 60.0

    assert asyncio.run(lookout.look()) == 1


def test_a_backend_without_reports_is_not_watched() -> None:
    """It says so, and is taken as quiet."""
    lookout, seen = looked({"v1__loads": None})

    assert seen is None
    assert not lookout.reports
    assert asyncio.run(lookout.until_quiet())


@pytest.fixture
def quick(monkeypatch) -> None:
    monkeypatch.setattr(backend, "LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(backend, "QUIET_WITHIN_S", 0.05)


def test_a_quiet_backend_is_quiet_at_once(quick) -> None:
    """Two looks that see nobody."""
    assert asyncio.run(looked({})[0].until_quiet())


def test_one_that_grows_quiet_was_not_idle(quick) -> None:
    """It is waited for, and told."""
    reports = iter([loads(3), loads(1), *[loads(0)] * 9])

    assert not asyncio.run(looked({"v1__loads": reports})[0].until_quiet())


def test_one_that_stays_loaded_is_refused(quick) -> None:
    """With how much was seen."""
    with pytest.raises(CannotMeasure, match=r"it is loaded by others: its reports showed 2 to 2 requests"):
        asyncio.run(looked({"v1__loads": loads(2)})[0].until_quiet())

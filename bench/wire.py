"""What the bench programs share: bodies in SGLang's shape, a precise timer, percentiles, pinning to a core.

The shapes are those of SGLang 0.5.23 as captured from a running server. Every paced token carries the moment it was
due (`~` and fifteen digits: microseconds of CLOCK_MONOTONIC), so a client on the same machine reads each token's delay
from the token itself, whatever stands between the two.
"""

import asyncio
import ctypes
import os
import random
import struct
from collections.abc import Callable, Iterable, Sequence

STAMP = b"~"
STAMP_DIGITS = 15
_ID = "112b2db8fc234ecbbee795e08e883b7c"
_HEAD = f'{{"id":"{_ID}","object":"chat.completion.chunk","created":1795359166,"model":"mock","choices":['
_DATE = b"date: Sun, 22 Nov 2026 14:52:45 GMT\r\nserver: uvicorn\r\nvary: Origin\r\n"


# What the upstream says.


def response(body: bytes, *, kind: str = "application/json", status: str = "200 OK") -> bytes:
    """A whole HTTP/1.1 response with a content-length."""
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\ncontent-type: {kind}\r\n"
    return head.encode() + _DATE + b"\r\n" + body


STREAM_HEAD = b"HTTP/1.1 200 OK\r\n" + _DATE + b"content-type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"


def http_chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(payload: str) -> bytes:
    return http_chunk(f"data: {payload}\n\n".encode())


def _delta(delta: str, finish: str = "null") -> bytes:
    choice = f'"delta":{{{delta}}},"logprobs":null,"finish_reason":{finish},"matched_stop":null'
    return _event(f'{_HEAD}{{"index":0,{choice}}}]}}')


ROLE = _delta('"reasoning_content":null,"role":"assistant","content":""')


def token(due: float) -> bytes:
    """One token's chunk, stamped with the moment it was due."""
    return _delta(f'"reasoning_content":null,"content":"~{int(due * 1e6):0{STAMP_DIGITS}d}"')


def tail(tokens: int, *, usage: bool) -> bytes:
    """The finish chunk, the usage chunk if asked for, [DONE] and the end of the body."""
    end = _delta('"reasoning_content":null', '"length"')
    if usage:
        end += _event(f'{_HEAD}],"usage":{_usage(tokens)}}}')
    return end + http_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def _usage(tokens: int) -> str:
    return (
        f'{{"prompt_tokens":34,"total_tokens":{34 + tokens},"completion_tokens":{tokens},'
        '"prompt_tokens_details":null,"reasoning_tokens":0,"completion_tokens_details":null}'
    )


def completion(tokens: int = 24) -> bytes:
    """A non-streamed answer of about 600 bytes."""
    text = "1. Red: This is the most obvious colour, but it's also the most complex. Red is a colour that"
    message = f'{{"role":"assistant","content":"{text}","reasoning_content":null}}'
    choice = f'{{"index":0,"message":{message},"logprobs":null,"finish_reason":"length","matched_stop":null}}'
    versions = f'{{"weight_version":"default","weight_versions":[{{"version":"default","start":0,"end":{tokens}}}]}}'
    body = (
        f'{{"id":"{_ID}","object":"chat.completion","created":1795359166,"model":"mock","choices":[{choice}],'
        f'"usage":{_usage(tokens)},"metadata":{versions}}}'
    )
    return response(body.encode())


# What a client says.

_TEXT = (
    "the a of and to in is it for on with as by that this from at or an be are was not but have they we you can will "
    "model token server batch queue answer question prompt cache memory stream reply load time small large fast slow"
)
_WORDS = _TEXT.split()


def prompt(size: int, seed: int) -> str:
    """About English text of exactly `size` ASCII bytes; a different seed differs from the first words on."""
    draw = random.Random(seed)
    block = " ".join(draw.choices(_WORDS, k=400)) + ".\\n"
    return (f"{seed} " + block * (size // len(block) + 1))[: size - 1].rstrip("\\").ljust(size, ".")


def chat_request(authority: str, *, prompt_bytes: int, seed: int, tokens: int, stream: bool) -> bytes:
    """A whole POST /v1/chat/completions."""
    options = ',"stream_options":{"include_usage":true}' if stream else ""
    body = (
        f'{{"model":"auto","messages":[{{"role":"user","content":"{prompt(prompt_bytes, seed)}"}}],'
        f'"max_tokens":{tokens},"temperature":0,"stream":{"true" if stream else "false"}{options}}}'
    )
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {authority}\r\nuser-agent: bestserve-bench\r\n"
        f"content-type: application/json\r\naccept: */*\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


# Time.

_LIBC = ctypes.CDLL(None, use_errno=True)
_MONOTONIC, _NONBLOCK_CLOEXEC, _ABSOLUTE = 1, 0o4000 | 0o2000000, 1


class Timer:
    """A timerfd in an event loop: exact to some fifty microseconds; the loop's own timers round to a millisecond."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._fd = _LIBC.timerfd_create(_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        loop.add_reader(self._fd, self._fire)

    def at(self, when: float) -> None:
        """Wake at `when` (time.monotonic()); a moment already past wakes at once."""
        seconds, fraction = divmod(max(when, 1e-6), 1.0)
        spec = struct.pack("4q", 0, 0, int(seconds), max(1, int(fraction * 1e9)))
        if _LIBC.timerfd_settime(self._fd, _ABSOLUTE, spec, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def _fire(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # set anew between the wake-up and now
            return
        self._callback()


# Numbers.


def quantile(ordered: Sequence[float], q: float) -> float:
    """The q-quantile of ascending values by nearest rank; nan of none."""
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else float("nan")


def summary_ms(seconds: Iterable[float]) -> dict[str, float]:
    """Count, mean and percentiles in milliseconds."""
    ordered = sorted(seconds)
    if not ordered:
        return {"n": 0}
    named = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
    found = {name: round(1e3 * quantile(ordered, q), 4) for name, q in named.items()}
    return {
        "n": len(ordered),
        "mean": round(1e3 * sum(ordered) / len(ordered), 4),
        **found,
        "max": round(1e3 * ordered[-1], 4),
    }


def settle_allocator() -> None:
    """Free one large block: glibc then keeps blocks up to its size for reuse, where it would return each to the kernel.

    Without it a 220 KB body costs page faults on every request until some larger one has been freed: figures three
    times apart from the same program, by what it had done before.
    """
    bytearray(16 << 20)


def pin(core: int | None) -> None:
    """Keep this process on one core, where there is such a core."""
    if core is not None and core in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {core})

"""What an emulated SGLang reads from a request, and how it says no: bytes to Wanted, or a Fault in one of SGLang's shapes. Pure.

Checks come in SGLang's order: JSON, then types (a validation error, whose text leaks a line of source), then values, then lengths.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from bestserve.profiles.schema import Engine

from .emulator_text import Answer, Tool, count, write

__all__ = ["QUEUE_FULL", "QUEUE_FULL_EVENT", "Fault", "Wanted", "answers", "chat", "completions", "embeddings", "fault", "responses"]

QUEUE_FULL = b'{"object":"error","message":"The request queue is full.","type":"503","param":null,"code":503}'
"""The body of a 503."""

QUEUE_FULL_EVENT = (
    b'data: {"error": {"object": "error", "message": "The request queue is full.", '
    b'"type": "SERVICE_UNAVAILABLE", "param": null, "code": 503}}\n\ndata: [DONE]\n\n'
)
"""What a stream says instead, after its 200."""


class Fault(Exception):
    """A request that is refused for what it says."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(body.decode())
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request, read."""

    model: str
    texts: tuple[str, ...]  # what each answer is to; several for a list of prompts
    prompt_tokens: int
    prompt: bytes = b""  # what may be remembered of it, four bytes a token; b"" for a list of prompts
    rid: str | None = None
    stream: bool = False
    include_usage: bool = False
    continuous_usage: bool = False
    n: int = 1  # choices for each text
    max_tokens: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    seed: int = 0
    logprobs: int | None = None  # alternatives to each token; None: no probabilities at all
    schema: Mapping[str, Any] | None = None
    tool: Tool | None = None
    dimensions: int | None = None
    base64: bool = False
    exact: bool = False  # whether the answer has the extra fields that a strict client refuses


def fault(message: str, status: int = 400, type: str = "BadRequestError") -> Fault:  # noqa: A002
    """A refusal in the shape that most of them have."""
    return Fault(status, orjson.dumps({"object": "error", "message": message, "type": type, "param": None, "code": status}))


def chat(raw: bytes) -> Wanted:
    """The body of /v1/chat/completions."""
    body = _body(raw, "/v1/chat/completions", "openai_v1_chat_completions", required=("messages",))
    messages = body["messages"]
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise _invalid("list_type", "messages", "Input should be a valid list", messages, *_CHAT)
    if not messages:
        raise fault("Messages cannot be empty.")
    texts = [_text(message.get("content")) for message in messages]
    mine = [text for text, message in zip(texts, messages, strict=True) if message.get("role") == "user"]
    tokens = 3 + sum(4 + count(text) for text in texts) + (count(orjson.dumps(body["tools"]).decode()) if body.get("tools") else 0)
    ceiling = body.get("max_completion_tokens", body.get("max_tokens"))
    logprobs = int(body.get("top_logprobs") or 0) if body.get("logprobs") is True else None
    wanted = _wanted(body, ((mine or texts)[-1],), tokens, ceiling, logprobs, schema=_schema(body.get("response_format")), tool=_tool(body))
    return replace(wanted, prompt=_bytes("".join(texts)))


def completions(raw: bytes) -> Wanted:
    """The body of /v1/completions. A prompt is a text, token numbers, or a list of either."""
    body = _body(raw, "/v1/completions", "openai_v1_completions", required=("prompt",))
    texts = _prompts(body["prompt"])
    if not texts:
        raise fault("Prompt cannot be empty.")
    tokens = sum(_prompt_tokens(text) for text in texts)
    logprobs = body.get("logprobs")
    if logprobs is not None and (isinstance(logprobs, bool) or not isinstance(logprobs, int)):
        raise _invalid("int_type", "logprobs", "Input should be a valid integer", logprobs, *_COMPLETIONS)
    schema = _schema(body.get("response_format"))
    wanted = _wanted(body, tuple(map(str, texts)), tokens, body.get("max_tokens", 16), logprobs, schema=schema)
    return replace(wanted, prompt=_bytes(texts[0])) if len(texts) == 1 else wanted


def responses(raw: bytes) -> Wanted:
    """The body of /v1/responses."""
    body = _body(raw, "/v1/responses", "v1_responses_request", required=("input",))
    given = body["input"]
    items = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    texts = [_text(item.get("content", item.get("output"))) if isinstance(item, dict) else str(item) for item in items]
    if not texts:
        raise fault("Input cannot be empty.")
    tokens = 3 + sum(4 + count(text) for text in [*texts, _text(body.get("instructions"))])
    form = body["text"].get("format") if isinstance(body.get("text"), dict) else None
    if isinstance(form, dict) and form.get("type") == "json_schema":
        form = {"type": "json_schema", "json_schema": form}
    return _wanted(body, (texts[-1],), tokens, body.get("max_output_tokens"), None, schema=_schema(form))


def embeddings(raw: bytes) -> Wanted:
    """The body of /v1/embeddings."""
    body = _body(raw, "/v1/embeddings", "openai_v1_embeddings", required=("input",))
    texts = _prompts(body["input"])
    if not texts:
        raise fault("Input cannot be empty.")
    tokens = sum(_prompt_tokens(text) for text in texts)
    dimensions = body.get("dimensions")
    if dimensions is not None and (not isinstance(dimensions, int) or not 1 <= dimensions <= 65_536):
        raise fault(f"dimensions must be at least 1, got {dimensions}.")
    return Wanted(
        model=str(body.get("model", "")),
        texts=tuple(map(str, texts)),
        prompt_tokens=max(tokens, 1),
        rid=body.get("rid") if isinstance(body.get("rid"), str) else None,
        dimensions=dimensions,
        base64=body.get("encoding_format") == "base64",
    )


def answers(wanted: Wanted, engine: Engine, seed: int) -> tuple[Answer, ...]:
    """Every choice, decided in full. Raises Fault when prompt or ceiling are too long."""
    longest = min(engine.context, engine.kv_tokens)
    if wanted.prompt_tokens >= longest:
        raise fault(
            f"The input ({wanted.prompt_tokens} tokens) is longer than the model's context length ({longest} tokens).",
        )
    total = wanted.prompt_tokens + (wanted.max_tokens or 0)
    if total > engine.context:
        raise fault(
            f"Requested token count exceeds the model's maximum context length of {engine.context} tokens. You requested a total of "
            f"{total} tokens: {wanted.prompt_tokens} tokens from the input messages and {wanted.max_tokens} tokens for the completion. "
            "Please reduce the number of tokens in the input messages or the completion to fit within the limit."
        )
    room = min(engine.context - wanted.prompt_tokens, (engine.kv_tokens - wanted.prompt_tokens) // (wanted.n * len(wanted.texts)))
    ceiling = room if wanted.max_tokens is None else min(wanted.max_tokens, room)
    return tuple(_answer(wanted, text, choice, ceiling, seed) for text in wanted.texts for choice in range(wanted.n))


def _answer(wanted: Wanted, text: str, choice: int, ceiling: int, seed: int) -> Answer:
    try:
        return write(
            text,
            seed=seed + wanted.seed,
            choice=choice,
            ceiling=ceiling,
            least=wanted.min_tokens,
            endless=wanted.ignore_eos,
            stop=wanted.stop,
            schema=wanted.schema,
            tool=wanted.tool,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise fault(f"Failed to compile the JSON schema: {error}") from error


_CHAT = ("/v1/chat/completions", "openai_v1_chat_completions")
_COMPLETIONS = ("/v1/completions", "openai_v1_completions")

_INTS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "min_tokens", "n", "seed", "top_logprobs")
_NUMBERS = ("temperature", "top_p", "frequency_penalty", "presence_penalty")


def _body(raw: bytes, path: str, function: str, *, required: Sequence[str]) -> dict[str, Any]:
    """The body, with fields of the right types. Fields that are null are as if they were not there."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        detail = {"type": "json_invalid", "loc": ("body", error.pos), "msg": "JSON decode error", "input": {}, "ctx": {"error": error.msg}}
        raise _validation(detail, path, function) from error
    if not isinstance(body, dict):
        detail = {"type": "model_attributes_type", "loc": ("body",), "msg": "Input should be a valid dictionary", "input": body}
        raise _validation(detail, path, function)
    body = {key: value for key, value in body.items() if value is not None}
    for key in required:
        if key not in body:
            raise _invalid("missing", key, "Field required", {**body, "tool_choice": "none"}, path, function)
    for key in _INTS:
        if key in body:
            body[key] = _int(key, body[key], path, function)
    for key in _NUMBERS:
        if key in body:
            body[key] = _number(key, body[key], path, function)
    return body


def _int(key: str, value: Any, path: str, function: str) -> int:
    """A whole number, also as a text, as pydantic reads it."""
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError as error:
            text = "Input should be a valid integer, unable to parse string as an integer"
            raise _invalid("int_parsing", key, text, value, path, function) from error
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise _invalid("int_type", key, "Input should be a valid integer", value, path, function)
    return int(value)


def _number(key: str, value: Any, path: str, function: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise _invalid("float_type", key, "Input should be a valid number", value, path, function) from error


def _invalid(kind: str, key: str, message: str, given: Any, path: str, function: str) -> Fault:
    return _validation({"type": kind, "loc": ("body", key), "msg": message, "input": given}, path, function)


def _validation(detail: Mapping[str, Any], path: str, function: str) -> Fault:
    """A validation error, with the source line that SGLang lets slip."""
    source = f'  File "site-packages/sglang/srt/entrypoints/http_server.py", line 1870, in {function}\n    POST {path} [{detail}]'
    return fault(f"1 validation error:\n  {detail}\n\n{source}", type="Bad Request")


def _wanted(
    body: Mapping[str, Any],
    texts: tuple[str, ...],
    tokens: int,
    max_tokens: int | None,
    logprobs: int | None,
    *,
    schema: Mapping[str, Any] | None,
    tool: Tool | None = None,
) -> Wanted:
    """What the endpoints that generate have in common."""
    if max_tokens is not None and max_tokens < 0:
        raise fault(f"max_new_tokens must be at least 0, got {max_tokens}.")
    if not 0 <= body.get("temperature", 1.0) < float("inf"):
        raise fault(f"temperature must be a non-negative finite number, got {body['temperature']}.")
    if not 1 <= body.get("n", 1) <= 128:
        raise fault(f"n must be between 1 and 128, got {body['n']}.")
    options = body.get("stream_options")
    options = options if isinstance(options, dict) else {}
    stop = body.get("stop", [])
    if not isinstance(stop, str | list):
        raise fault(f"stop must be a text or a list of texts, got {stop}.")
    return Wanted(
        model=str(body.get("model", "")),
        texts=texts,
        prompt_tokens=max(tokens, 1),
        rid=body["rid"] if isinstance(body.get("rid"), str) else None,
        stream=body.get("stream") is True,
        include_usage=options.get("include_usage") is True,
        continuous_usage=options.get("continuous_usage_stats") is True,
        n=body.get("n", 1),
        max_tokens=max_tokens,
        min_tokens=body.get("min_tokens", 0),
        stop=(stop,) if isinstance(stop, str) else tuple(str(one) for one in stop),
        ignore_eos=body.get("ignore_eos") is True,
        seed=body.get("seed", 0),
        logprobs=logprobs,
        schema=schema,
        tool=tool,
    )


def _text(content: Any) -> str:
    """The text of a message; a part that is not text counts as if its address were read."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", part)) if isinstance(part, dict) else str(part) for part in content)
    return "" if content is None else str(content)


def _prompts(prompt: Any) -> list[Any]:
    """The prompts of a field that takes a text, token numbers, or a list of either."""
    if isinstance(prompt, str):
        return [prompt]
    if not isinstance(prompt, list) or not prompt:
        return []
    return [prompt] if isinstance(prompt[0], int) else prompt


def _prompt_tokens(prompt: Any) -> int:
    return len(prompt) if isinstance(prompt, list) else count(str(prompt))


def _bytes(prompt: Any) -> bytes:
    """A prompt as four bytes a token."""
    if isinstance(prompt, list):
        return b"".join((token % 2**32).to_bytes(4, "big") for token in prompt if isinstance(token, int))
    return str(prompt).encode("utf-8", "surrogatepass")


def _schema(form: Any) -> Mapping[str, Any] | None:
    """The schema that an answer has to satisfy: empty for any object, None for plain text."""
    if not isinstance(form, dict) or form.get("type") not in {"json_object", "json_schema"}:
        return None
    given = form.get("json_schema") if form["type"] == "json_schema" else None
    schema = given.get("schema", given.get("schema_")) if isinstance(given, dict) else None
    return schema if isinstance(schema, dict) else {}


def _tool(body: Mapping[str, Any]) -> Tool | None:
    """The function that has to be called: the named one, or the first if one is required."""
    choice, given = body.get("tool_choice"), body.get("tools")
    named = _function(choice).get("name")
    tools = [_function(tool) for tool in given] if isinstance(given, list) else []
    if named is not None:
        tools = [tool for tool in tools if tool.get("name") == named]
    if not tools or (choice != "required" and named is None):
        return None
    return Tool(str(tools[0].get("name")), tools[0].get("parameters") or {"type": "object"})


def _function(entry: Any) -> Mapping[str, Any]:
    function = entry.get("function") if isinstance(entry, dict) else None
    return function if isinstance(function, dict) else {}

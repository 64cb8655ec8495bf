"""OpenAI's wire in front: which fields of a request we read, and how it goes on upstream.

A body is split into its top-level fields and no further: each value stays the bytes that the client wrote. Only the fields that we
decide on are decoded; the rest is never looked at and goes upstream as it came, whatever it is.

What is set on the way: `model`, the token cap, `stream_options.include_usage` of a stream, a budget's instruction.
What is taken off, because the key's class and we decide it: `priority`, `rid`. What is refused, because it names another address, a
credential or code: REFUSED_FIELDS.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import orjson

from bestserve.proxy.errors import BadAsk

Raw = msgspec.Raw
Fields = dict[str, Raw]
_T = TypeVar("_T")

REFUSED_FIELDS = ("api_base", "base_url", "api_key", "custom_logit_processor")
TAKEN_OFF = ("priority", "rid")
CAPS = {"chat": ("max_completion_tokens", "max_tokens"), "completions": ("max_tokens",)}
MOST_CHOICES = 128
MOST_TOKENS = 10_000_000
BYTES_PER_TOKEN = 4.0
IMAGE_TOKENS = 1000
MESSAGE_TOKENS = 5
"""Tokens that a chat template puts around each message, roughly."""

_fields = msgspec.json.Decoder(dict[str, Raw])
_rows = msgspec.json.Decoder(list[Raw])
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Parsed:
    """What was read from one body, and its fields as they came."""

    endpoint: str  # "chat" or "completions"
    model: str
    stream: bool
    usage_asked: bool  # the client wants the usage chunk of a stream
    max_tokens: int | None
    n: int
    prompt_tokens: int  # estimated
    needs: frozenset[str]
    service_tier: str | None
    metadata: Mapping[str, Any]
    fields: Fields
    messages: list[Raw] | None = None  # of a chat


def split(body: bytes) -> Fields:
    """The top-level fields of a JSON object. Raises BadAsk."""
    try:
        return _fields.decode(body)
    except msgspec.ValidationError as error:
        raise BadAsk("The body must be a JSON object.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadAsk(f"The body is not valid JSON: {_why(error, body)}", code="invalid_json") from error
    except RecursionError as error:
        raise BadAsk("The body is nested too deeply.", code="invalid_json") from error


def model_of(fields: Fields) -> str:
    """The model's name. Raises BadAsk."""
    model = _read(fields, "model", str, "a text")
    if not model:
        raise BadAsk("You must provide a model parameter.", param="model")
    return model


def parse(endpoint: str, body: bytes) -> Parsed:
    """Read what we decide on from a body. Raises BadAsk naming the field.

    Of an endpoint that is only passed on (not in CAPS) the model, the stream flag and the size are read.
    """
    fields = split(body)
    for name in REFUSED_FIELDS:
        if name in fields:
            raise BadAsk(f"'{name}' cannot be set by a request here.", param=name)
    messages = _messages(fields) if endpoint == "chat" else None
    return Parsed(
        endpoint=endpoint,
        model=model_of(fields),
        stream=bool(_read(fields, "stream", bool, "true or false")),
        usage_asked=endpoint not in CAPS or _usage_asked(fields),
        max_tokens=_max_tokens(endpoint, fields),
        n=_n(endpoint, fields),
        prompt_tokens=_prompt_tokens(endpoint, fields, messages),
        needs=_needs(fields, messages or []) if endpoint in CAPS else frozenset({endpoint}),
        service_tier=_read(fields, "service_tier", str, "a text"),
        metadata=_read(fields, "metadata", dict, "an object") or {},
        fields=fields,
        messages=messages,
    )


def forward(parsed: Parsed, *, model: str, cap: int | None, instruction: str | None) -> bytes:
    """The body that goes upstream. `cap` is the least of the client's ceiling and our budget, None for no cap."""
    fields = {name: value for name, value in parsed.fields.items() if name not in TAKEN_OFF}
    fields["model"] = _raw(model)
    if parsed.endpoint in CAPS and cap is not None and cap != parsed.max_tokens:
        for name in [name for name in CAPS[parsed.endpoint] if _is_set(fields, name)] or CAPS[parsed.endpoint][:1]:
            fields[name] = _raw(cap)
    if parsed.stream and not parsed.usage_asked:
        fields["stream_options"] = _with_usage(fields.get("stream_options"))
    if instruction is not None and parsed.endpoint == "chat":
        fields["messages"] = instructed(fields["messages"], instruction)
    return _encode(fields)


def instructed(messages: Raw, instruction: str) -> Raw:
    """The messages with a sentence at the end of the last one of the user, where the prefix before it stays the same."""
    rows = _rows.decode(messages)
    for i in range(len(rows) - 1, -1, -1):
        message = _object(rows[i])
        if message is not None and message.get("role") == Raw(b'"user"') and "content" in message:
            message["content"] = _extended(bytes(message["content"]).strip(), instruction)
            rows[i] = Raw(_encode(message))
            return Raw(_encode(rows))
    return messages


def _extended(content: bytes, instruction: str) -> Raw:
    """A content with an instruction at its end, spliced as bytes so that what stands there is not read."""
    if content.startswith(b'"'):
        return Raw(content[:-1] + orjson.dumps("\n\n" + instruction)[1:])
    if content.startswith(b"["):
        comma = b"," if content[1:-1].strip() else b""
        return Raw(content[:-1] + comma + orjson.dumps({"type": "text", "text": instruction}) + b"]")
    return Raw(content)


def _with_usage(options: Raw | None) -> Raw:
    kept = (_object(options) if options is not None else None) or {}
    return Raw(_encode({**kept, "include_usage": Raw(b"true")}))


def _usage_asked(fields: Fields) -> bool:
    options = _read(fields, "stream_options", dict, "an object") or {}
    return options.get("include_usage") is True


def _messages(fields: Fields) -> list[Raw]:
    if not _is_set(fields, "messages"):
        raise BadAsk("Missing required parameter: 'messages'.", param="messages", code="missing_required_parameter")
    try:
        rows = _rows.decode(fields["messages"])
    except msgspec.DecodeError as error:
        raise BadAsk("'messages' must be an array.", param="messages", code="invalid_type") from error
    if not rows:
        raise BadAsk("'messages' must not be empty.", param="messages", code="empty_array")
    for i, row in enumerate(rows):
        if memoryview(row)[0] != _BRACE:
            raise BadAsk(f"'messages[{i}]' must be an object.", param=f"messages[{i}]", code="invalid_type")
    return rows


_BRACE = ord("{")


def _max_tokens(endpoint: str, fields: Fields) -> int | None:
    """The client's ceiling. Zero goes on as it is, for the engine to make of it what it does; we count it as one token."""
    least = None
    for name in CAPS.get(endpoint, ()):
        count = _count(fields, name, 0, MOST_TOKENS)
        if count is not None and (least is None or count < least):
            least = max(count, 1)
    return least


def _n(endpoint: str, fields: Fields) -> int:
    """How many answers there will be: the choices asked for, of each prompt."""
    n = _count(fields, "n", 1, MOST_CHOICES) or 1
    return n * len(_prompts(endpoint, fields)) if endpoint == "completions" else n


def _prompt_tokens(endpoint: str, fields: Fields, messages: list[Raw] | None) -> int:
    """An estimate from the body's size: every token of the prompt is some four bytes. Of several prompts, the longest."""
    if messages is None:
        return max(1, round(max(map(_text_tokens, _prompts(endpoint, fields)), default=0)))
    size = sum(map(_message_tokens, messages)) + len(fields.get("tools", b"")) / BYTES_PER_TOKEN
    return max(1, round(size))


def _prompts(endpoint: str, fields: Fields) -> list[Raw]:
    """Each prompt, or input to embed, of which some endpoints take several at once."""
    prompt = _prompt(endpoint, fields)
    if endpoint == "responses" or bytes(memoryview(prompt)[:1]) != b"[":
        return [prompt]
    rows = _rows.decode(prompt)
    several = all(bytes(memoryview(row)[:1]) in (b'"', b"[") for row in rows)
    return rows if rows and several else [prompt]


def _text_tokens(prompt: Raw) -> float:
    """Of a text, by its size; of a list of tokens, their number."""
    return bytes(prompt).count(b",") + 1 if bytes(memoryview(prompt)[:1]) == b"[" else len(prompt) / BYTES_PER_TOKEN


def _prompt(endpoint: str, fields: Fields) -> Raw:
    name = "prompt" if endpoint == "completions" else "input"
    if not _is_set(fields, name) and endpoint != "responses":
        raise BadAsk(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
    return fields.get(name, _NULL)


_ROLE_BYTES = len('{"role":"user","content":""}')


def _message_tokens(message: Raw) -> float:
    """Of a content that is a text, by its size; of a list of parts, by the parts, since an image's bytes are not its tokens."""
    if _has_parts(message):
        return MESSAGE_TOKENS + _part_tokens(bytes(message))
    return max(0, len(message) - _ROLE_BYTES) / BYTES_PER_TOKEN + MESSAGE_TOKENS


def _has_parts(message: Raw) -> bool:
    """Whether a message's content is a list of parts."""
    begin = _CONTENT.search(message, 0, _HEAD)  # a Raw is a buffer
    if begin is None and len(message) > _HEAD:  # it begins late
        return bytes((_object(message) or {}).get("content", b"")).startswith(b"[")
    return begin is not None and begin[1] == b"["


_CONTENT = re.compile(rb'"content"\s*:\s*([^\s])')
_HEAD = 256  # bytes of a message in which its content is expected to begin


def _part_tokens(message: bytes) -> float:
    try:
        content = orjson.loads(message).get("content")
    except ValueError:
        return len(message) / BYTES_PER_TOKEN
    return sum(map(_one_part_tokens, content)) if isinstance(content, list) else len(message) / BYTES_PER_TOKEN


def _one_part_tokens(part: Any) -> float:
    text = part.get("text") if isinstance(part, dict) else None
    return len(text.encode("utf-8", "surrogatepass")) / BYTES_PER_TOKEN if isinstance(text, str) else IMAGE_TOKENS


def _needs(fields: Fields, messages: list[Raw]) -> frozenset[str]:
    """Capabilities that the request's fields call for."""
    needs = set()
    if _is_set(fields, "tools") or _is_set(fields, "functions"):
        needs.add("tools")
    kind = _read(fields, "response_format", dict, "an object")
    if kind is not None and kind.get("type") in ("json_object", "json_schema"):
        needs.add("json")
    if any(map(_has_image, messages)):
        needs.add("vision")
    return frozenset(needs)


def _has_image(message: Raw) -> bool:
    """Whether a content is a list with an image in it. A text that speaks of images is not looked into."""
    return _has_parts(message) and b'"image_url"' in bytes(message)


def _is_set(fields: Fields, name: str) -> bool:
    return name in fields and fields[name] != _NULL


_NULL = Raw(b"null")


def _read(fields: Fields, name: str, kind: type[_T], what: str) -> _T | None:
    """One field, decoded; None when it is absent or null. Raises BadAsk when it is something else than `kind`."""
    raw = fields.get(name)
    if raw is None or raw == _NULL:
        return None
    try:
        value = orjson.loads(memoryview(raw))
    except ValueError as error:
        raise BadAsk(f"'{name}' cannot be read: {error}", param=name, code="invalid_value") from error
    if not isinstance(value, kind):
        raise BadAsk(f"Invalid type for '{name}': expected {what}, but got {_shown(value)}.", param=name, code="invalid_type")
    return value


def _count(fields: Fields, name: str, least: int, most: int) -> int | None:
    value = _read(fields, name, object, "a whole number")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadAsk(f"Invalid type for '{name}': expected a whole number, but got {_shown(value)}.", param=name, code="invalid_type")
    if not least <= value <= most:
        raise BadAsk(f"Invalid value for '{name}': must be between {least} and {most}, but is {value}.", param=name, code="invalid_value")
    return value


def _object(raw: Raw) -> Fields | None:
    try:
        return _fields.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _raw(value: str | int) -> Raw:
    return Raw(orjson.dumps(value))


def _shown(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "an array", dict: "an object"}
    return names.get(type(value), "null")


def _why(error: Exception, body: bytes) -> str:
    """A parser's complaint, without the parser's name. Half a surrogate pair is told in plain words: texts that were shortened by UTF-16
    units end in one."""
    said = str(error).removeprefix("JSON is malformed: ")
    half = "half of a surrogate pair, a \\u escape without the other one"
    for words in ("unexpected end of hex escape", "invalid utf-16 surrogate pair"):
        said = said.replace(words, half)
    return half if said == "Input data was truncated" and _HALF.search(body[-12:]) else said


_HALF = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}[^\\]")

"""The OpenAPI document of the outside: what it says of bodies is what we decide on; all other fields of OpenAI's API pass."""

from typing import Any

from .config import TIERS
from .dialects.openai import MOST_CHOICES, MOST_TOKENS
from .feedback import RATINGS

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_MODEL = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": {"type": "string"},
    },
}
_ASK = {
    "model": {"type": "string", "minLength": 1, "description": "An alias (the policy chooses), a backend, or a model."},
    "stream": {"type": ["boolean", "null"]},
    "n": {"type": ["integer", "null"], "minimum": 1, "maximum": MOST_CHOICES},
    "max_tokens": {"type": ["integer", "null"], "minimum": 0, "maximum": MOST_TOKENS},
    "service_tier": {"type": ["string", "null"], "examples": ["auto", *TIERS]},
    "metadata": {"type": ["object", "null"], "description": "`task` in it hints at the kind of work."},
}
_MESSAGES = {"type": "array", "minItems": 1, "items": {"type": "object"}}
_CAP = {"max_completion_tokens": _ASK["max_tokens"]}
_DEADLINES = [
    {"name": name, "in": "header", "required": False, "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": 86_400_000}}
    for name in ("x-slo-ttft-ms", "x-slo-tpot-ms", "x-slo-e2e-ms")
]


def document(version: str) -> dict[str, Any]:
    """The whole document, as OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "bestserve", "version": version, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "paths": {
            "/v1/chat/completions": _answer("Answer a conversation.", {**_ASK, **_CAP, "messages": _MESSAGES}, ["model", "messages"]),
            "/v1/completions": _answer("Continue a text.", {**_ASK, "prompt": {}}, ["model", "prompt"]),
            "/v1/embeddings": _answer("Embed texts.", {"model": _ASK["model"], "input": {}}, ["model", "input"]),
            "/v1/responses": _answer("Answer, by the Responses API.", {"model": _ASK["model"], "input": {}}, ["model"]),
            "/v1/feedback": _feedback(),
            "/v1/models": _get("Every name that a request may say.", {"type": "object"}, secured=True),
            "/v1/models/{id}": {
                **_get("One of them.", _MODEL, secured=True, more=("404",)),
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}],
            },
            "/health": _get("The process answers.", {"type": "object"}),
            "/health/liveness": _get("The process answers.", {"type": "object"}),
            "/health/readiness": _get("A backend is up.", {"type": "object"}, more=("503",)),
        },
        "components": {"schemas": {"Error": _ERROR}, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _answer(summary: str, fields: dict[str, Any], required: list[str]) -> dict[str, Any]:
    schema = {"type": "object", "required": required, "properties": fields, "additionalProperties": True}
    statuses = ("400", "401", "404", "413", "429", "500", "503")
    return {
        "post": {
            "summary": summary,
            "security": [{"key": []}, {}],
            "parameters": _DEADLINES,
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
            "responses": {"200": _ok({"type": "object"}, streamed=True), **{status: _failed() for status in statuses}},
        }
    }


def _feedback() -> dict[str, Any]:
    fields = {
        "decision": {"type": "string", "minLength": 1, "description": "The answer's x-bestserve-decision."},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "rating": {"enum": sorted(RATINGS)},
    }
    either = [{"required": ["decision", "score"]}, {"required": ["decision", "rating"]}]
    taken = {"object": {"const": "feedback"}, "decision": {"type": "string"}, "score": fields["score"]}
    statuses = ("400", "401", "404", "413", "429", "503")
    return {
        "post": {
            "summary": "Say what an answer was worth.",
            "security": [{"key": []}, {}],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"type": "object", "properties": fields, "oneOf": either}}},
            },
            "responses": {"200": _ok({"type": "object", "properties": taken}), **{status: _failed() for status in statuses}},
        }
    }


def _get(summary: str, schema: dict[str, Any], *, secured: bool = False, more: tuple[str, ...] = ()) -> dict[str, Any]:
    statuses = (*(("401",) if secured else ()), *more)
    verb: dict[str, Any] = {"summary": summary, "responses": {"200": _ok(schema), **{status: _failed() for status in statuses}}}
    if secured:
        verb["security"] = [{"key": []}, {}]
    return {"get": verb}


def _ok(schema: dict[str, Any], *, streamed: bool = False) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if streamed:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    return {"description": "The answer.", "content": content}


def _failed() -> dict[str, Any]:
    return {"description": "Why not.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}

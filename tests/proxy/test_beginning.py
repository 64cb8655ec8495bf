"""In which order the parts of a prompt are looked at, and how little of a long one."""

import orjson

from bestserve.policy.prefixes import FEW, prompt_of
from bestserve.proxy.dialects import openai
from bestserve.proxy.dialects.beginning import pieces

TOOLS = [{"type": "function", "function": {"name": "f"}}]


def parts(*messages: dict, endpoint: str = "chat", **more: object) -> list[tuple[str, bool, bool, int]]:
    body = {"model": "m", **({"messages": list(messages)} if messages else {}), **more}
    return [(bytes(text).decode(), *rest) for text, *rest in pieces(openai.parse(endpoint, orjson.dumps(body)))]


def message(role: str, content: str) -> dict:
    return {"role": role, "content": content}


def test_tools_stand_after_the_systems_words():
    """As a chat template writes them; before all else where there is no system prompt."""
    system, user, answer = message("system", "s"), message("user", "u"), message("assistant", "a")
    shown = parts(system, user, answer, user, tools=TOOLS)
    assert [text for text, *_ in shown] == [orjson.dumps(part).decode() for part in (system, TOOLS, user, answer, user)]
    assert [rest for _, *rest in shown] == [
        [False, False, 0],
        [False, False, 0],
        [False, True, 0],
        [True, False, 0],
        [False, True, 0],
    ]
    assert [text for text, *_ in parts(user, tools=TOOLS)] == [orjson.dumps(part).decode() for part in (TOOLS, user)]
    assert [text for text, *_ in parts(system, tools=TOOLS)] == [orjson.dumps(part).decode() for part in (system, TOOLS)]


def test_a_role_is_told_wherever_it_stands():
    """With blanks, and after a long content."""
    body = b'{"model": "m", "messages": [{ "role" : "user", "content": "u"}, {"content": "%b", "role": "assistant"}, {}]}' % (b"x" * 5000)
    assert [rest for _, *rest in pieces(openai.parse("chat", body))] == [[False, True, 0], [True, False, 0], [False, False, 0]]


def test_of_a_very_long_conversation_both_ends_are_shown():
    """With the size of what is not, so that every message stands where it stood a turn before."""
    rows = [message("user", str(i)) for i in range(1000)]
    shown = parts(*rows)
    assert len(shown) == 2 * FEW
    assert shown[FEW][3] == sum(len(orjson.dumps(row)) for row in rows[FEW:-FEW])
    assert not any(skipped for i, (*_, skipped) in enumerate(shown) if i != FEW)


def test_a_completions_prompt_is_one_part():
    """Without its quotes; several prompts or tokens are not looked at, and settings never are."""
    assert parts(endpoint="completions", prompt="once upon", user="u1", seed=3) == [("once upon", False, True, 0)]
    assert parts(endpoint="completions", prompt=["a", "b"]) == []
    assert parts(endpoint="completions", prompt=[1, 2, 3]) == []


def test_what_differs_per_request_and_is_no_prompt_changes_nothing():
    """Ids, seeds and settings leave the marks as they are; a word of the prompt does not."""

    def marks(text: str, **more: object) -> tuple[int, ...]:
        body = orjson.dumps({"model": "m", "messages": [message("user", text)], **more})
        return prompt_of(pieces(openai.parse("chat", body))).marks

    assert marks("hi", user="u-17", seed=3, metadata={"trace": "x"}) == marks("hi", user="u-18", temperature=1)
    assert marks("hi") != marks("ho")

"""What looking for a prompt in the backends' memories costs a request, beside reading its body: `python bench/prefixes.py`.

Microseconds, the least of many. Three backends; one of them has read the prompt. Nothing is needed but the serving install.
"""

import timeit
from collections.abc import Callable

import click
import orjson

from bestserve import profiles
from bestserve.policy.facts import Backend
from bestserve.policy.prefixes import Prefixes, prompt_of
from bestserve.proxy.dialects import openai
from bestserve.proxy.dialects.beginning import pieces

BACKENDS = tuple(Backend(name, "m", profiles.load("qwen3-8b-h100")) for name in "abc")
CASES = (("2 kB", 600, 3), ("2 kB", 60, 19), ("400 kB", 400_000, 1), ("400 kB", 8_000, 50), ("100 kB", 80, 1000))


@click.command()
@click.option("--rounds", default=400)
def main(rounds: int) -> None:
    """Print a line for each prompt."""
    for name, size, n in CASES:
        sent = body(size, n)
        parsed = openai.parse("chat", sent)
        prompt, tokens, here = prompt_of(pieces(parsed)), parsed.prompt_tokens, Prefixes()
        here.adopt(BACKENDS)
        here.learn("a", prompt, tokens)
        parse = least(lambda sent=sent: openai.parse("chat", sent), rounds)  # type: ignore[misc]
        read = least(lambda parsed=parsed: prompt_of(pieces(parsed)), rounds)  # type: ignore[misc]
        predict = least(lambda: here.predict(prompt, tokens, BACKENDS), rounds)  # noqa: B023
        learn = least(lambda: here.learn("a", prompt, tokens), rounds)  # noqa: B023
        click.echo(f"{name:>7} in {n + 1:4} messages: parse {parse:7.1f}  marks {read:6.1f}  predict {predict:4.1f}  learn {learn:4.1f}")


def body(size: int, n: int) -> bytes:
    """A conversation of `n` messages of so many characters, after a system prompt."""
    talk = [{"role": ("user", "assistant")[i % 2], "content": chr(97 + i % 26) * size} for i in range(n)]
    return orjson.dumps({"model": "m", "messages": [{"role": "system", "content": "x" * 200}, *talk]})


def least(what: Callable[[], object], rounds: int) -> float:
    """Microseconds of the quickest of so many rounds of three."""
    return min(timeit.repeat(what, number=3, repeat=rounds)) / 3 * 1e6


if __name__ == "__main__":
    main()

"""Any server that speaks OpenAI's API and nothing more that we know: a provider, llama.cpp, a gateway.

It is ready when it lists its models, which is asked seldom, and it does not say its load. How it says that a request is too long is told
by its own words where they are OpenAI's, vLLM's or llama.cpp's; any other 400 is about the request.
"""

import re

from .dialect import MODELS, Dialect, Said, prompt_over, total_over, usual_reason

SELDOM_S = 10.0


def over(said: Said) -> tuple[str, int] | None:
    """What to tell a client whose request is over a context, and that context (0: unknown); None when that is not what is said."""
    if total := _TOTAL_OVER.search(said.message):
        limit, asked, prompt, answer = (int(total[i]) for i in (1, 2, 3, 4))
        return total_over(asked, limit, prompt, answer)
    for words in _PROMPT_OVER:
        if found := words.search(said.message):
            return prompt_over(int(found["asked"]), int(found["limit"]))
    return (said.message, 0) if said.code == "context_length_exceeded" else None


_TOTAL_OVER = re.compile(
    r"maximum context length is (\d+) tokens\. However, you requested (\d+) tokens \((\d+) in the \w+, (\d+) in the completion\)"
)
_PROMPT_OVER = (
    re.compile(r"maximum context length is (?P<limit>\d+) tokens\. However, your \w+ (?:resulted in|contains at least) (?P<asked>\d+) "),
    re.compile(r"request \((?P<asked>\d+) tokens\) exceeds the available context size \((?P<limit>\d+) tokens\)"),
)


def _reason(status: int, said: Said) -> str:
    return "quota_spent" if said.code == "insufficient_quota" else usual_reason(status, said)


COMPATIBLE = Dialect("openai", ready=MODELS, reports=(), over=over, reason=_reason, least_s=SELDOM_S)

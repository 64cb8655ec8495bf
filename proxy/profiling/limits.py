"""What bounds an engine: as the backend says, as the command line says, or assumed; each with where it comes from. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from bestserve.profiles import Engine, Source
from bestserve.proxy.dialects.sglang import Limits

from .points import together
from .runs import Run

__all__ = ["engine_of", "numbers"]

Number = tuple[float, Source]

ASSUMED = {"max_running": 256, "kv_tokens": 262_144, "context": 8_192, "prefill_batch_tokens": 8_192}
_ROUGH = {"prefill_tokens_per_s": 1e4, "prefill_fixed_s": 0.01, "step_fixed_s": 0.01, "step_per_seq_s": 1e-4, "step_per_kv_token_s": 0.0}


def numbers(limits: Limits, told: Mapping[str, int], runs: Sequence[Run]) -> dict[str, Number]:
    """Every limit with its source. `told` is by the command line, which wins."""
    said = asdict(limits)
    found: dict[str, Number] = {}
    for name in (*ASSUMED, "max_queued"):
        if name in told:
            found[name] = told[name], Source(f"told with --{name.replace('_', '-')}", "assumed")
        elif said[name]:
            found[name] = said[name], Source("what the backend says of itself", "measured")
        elif name in ASSUMED:
            found[name] = _seen(runs) if name == "max_running" else _assumed(name)
    return found


def engine_of(values: Mapping[str, float]) -> Engine:
    """An engine of constants by name; those that nobody knows yet are round figures."""
    whole = {"max_running", "kv_tokens", "context", "prefill_batch_tokens", "max_queued"}
    return Engine(**{name: int(value) if name in whole else value for name, value in {**_ROUGH, **values}.items()})  # type: ignore[arg-type]


def _assumed(name: str) -> Number:
    return ASSUMED[name], Source(f"the backend does not say it; tell --{name.replace('_', '-')}", "assumed")


def _seen(runs: Sequence[Run]) -> Number:
    """The most sequences that ran together: a limit where more were asked at once, else the most that was tried."""
    decodes = [run for run in runs if run.kind == "decode" and run.failed is None and not run.foreign]
    most = max((together(run.streams) for run in decodes), default=0)
    if any(len(run.streams) > most for run in decodes):
        return most, Source(f"no more than {most} ran together where more were asked at once", "measured")
    if most:
        return most, Source(f"{most} were asked at once and ran together; the backend does not say its limit", "assumed")
    return _assumed("max_running")

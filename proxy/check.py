"""`bestserve check`: asks every backend, and says what would be done with a typical request. Nothing is served."""

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from bestserve.policy import actor
from bestserve.policy.calibration import calibrated
from bestserve.policy.decide import decide
from bestserve.policy.encode import Observation
from bestserve.policy.facts import Decision
from bestserve.policy.fleet import Fleet

from . import typical
from .check_provider import problems_of
from .choosers import chosen, learned
from .config import BackendConfig, Config
from .dialects.dialect import MODELS, models_of
from .dialects.sglang import SGLANG
from .engines import ENGINES
from .errors import BackendFailure
from .provider import leave
from .reading import Reading
from .serving import timeouts_of
from .takeup import take
from .upstream import Upstream


@dataclass(slots=True)
class Finding:
    """What one backend said."""

    backend: str
    url: str
    model: str
    profile: str
    reachable: bool = False
    ready: bool = False
    serves: list[str] = field(default_factory=list)
    context: int | None = None
    running: int | None = None
    load_from: str | None = None
    engine: str | None = None  # what it says that it is
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def run(config: Config, *, as_json: bool) -> int:
    """Print what was found. Returns the exit code: 1 when a backend cannot serve as the config says, or the policy cannot be used."""
    findings, (plan, refusal) = asyncio.run(ask_all(config)), _would_do(config)
    ok = refusal is None and not any(finding.problems for finding in findings)
    if as_json:
        said = {"ok": ok, "backends": [asdict(f) for f in findings], "policy_problem": refusal, "would_do": plan}
        click.echo(orjson.dumps(said, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(config, findings, plan, refusal)
    return 0 if ok else 1


async def ask_all(config: Config) -> list[Finding]:
    try:
        return list(await asyncio.gather(*(_ask_one(config, backend) for backend in config.backends)))
    finally:
        if any(backend.engine == "litellm" for backend in config.backends):
            await leave()


async def _ask_one(config: Config, backend: BackendConfig) -> Finding:
    found = Finding(backend.name, backend.url or "", backend.model, backend.profile.name)
    if backend.is_bought and (backend.spend.usd_per_hour, backend.spend.usd_per_day) == (None, None):
        found.remarks.append("is paid for and has no cap: set backends[].spend")
    if backend.engine == "litellm":
        found.engine, found.context = "litellm", backend.facts().profile.engine.context
        found.problems += await problems_of(backend, timeouts_of(config))
        found.reachable = found.ready = not found.problems
        return found
    upstream = Upstream(backend.url or "", timeouts=timeouts_of(config), api_key=backend.api_key, speaks=ENGINES[backend.engine])
    try:
        async with asyncio.timeout(10):
            await _question(found, upstream, backend)
    except TimeoutError:
        found.problems.append("did not answer within 10 s")
    except BackendFailure as error:
        found.problems.append(f"cannot be reached at {backend.url}: {_plainly(str(error))}")
    finally:
        upstream.close()
    return found


async def _question(found: Finding, upstream: Upstream, backend: BackendConfig) -> None:
    speaks = upstream.speaks
    ready, _ = await upstream.get(speaks.ready)
    found.reachable, found.ready = True, ready == 200
    status, body = await upstream.get(MODELS)
    if status == 401:
        found.problems.append("refuses our key: set backends[].api_key")
        return
    models = _models(found, status, body)
    if speaks.name != found.engine is not None:
        found.problems.append(f"is {_PROSE[found.engine]}: set backends[].engine to {found.engine}")
    elif not found.ready:
        found.problems.append(f"{speaks.ready} answers {ready}: it is not ready, or it is not {_PROSE[speaks.name]}")
    _judge_models(found, backend, models)
    if found.engine in (None, speaks.name):
        await _question_load(found, upstream)


async def _question_load(found: Finding, upstream: Upstream) -> None:
    for path, read in upstream.speaks.reports:
        status, body = await upstream.get(path)
        if status == 200:
            found.running, found.load_from = read(body).running, path
            return
    hint = " (start it with --enable-metrics)" if upstream.speaks is SGLANG else ""
    found.remarks.append(f"does not report its load: only our own requests will be counted{hint}")


_PROSE = {"sglang": "SGLang", "vllm": "vLLM", "openai": "a server with OpenAI's API that is neither SGLang nor vLLM"}


def _models(found: Finding, status: int, body: bytes) -> Mapping[str, Mapping[str, Any]]:
    """The models that it serves; and what kind of server it is, which each of them says."""
    try:
        models = models_of(body) if status == 200 else {}
    except ValueError as error:
        found.problems.append(str(error))
        return {}
    for said in models.values():
        owner = said.get("owned_by")
        found.engine = owner if owner in ("sglang", "vllm") else "openai"
    return models


def _judge_models(found: Finding, backend: BackendConfig, models: Mapping[str, Mapping[str, Any]]) -> None:
    found.serves = list(models)
    if backend.model not in models:
        found.problems.append(f"serves {', '.join(models) or 'no model'}, not {backend.model!r}: correct backends[].model")
        return
    found.context = _context(models[backend.model])
    believed = backend.context or backend.profile.engine.context
    if found.context is not None and found.context < believed:
        found.remarks.append(f"its context is {found.context} tokens, less than the {believed} of the config: set backends[].context")


def _context(said: Mapping[str, Any]) -> int | None:
    length = said.get("max_model_len")
    return length if isinstance(length, int) else None


def _would_do(config: Config) -> tuple[dict[str, Any], str | None]:
    """What a typical request would meet on the idle fleet; and why the policy that is named would not decide."""
    decision, observation, refusal = _typical(config)
    n = len(decision.actions) - 1
    candidates = [
        {
            "backend": decision.actions[i].backend,
            "budget": decision.actions[i].budget.name,
            "probability": round(float(decision.probabilities[i]), 4),
            "ttft_s": round(float(observation["ttft_s"][i]), 4),
            "tpot_s": round(float(observation["tpot_s"][i]), 5),
            "quality": round(float(observation["quality"][i]), 3),
            "p_on_time": round(float(observation["p_on_time"][i]), 3),
            "usd": round(float(observation["usd"][i]), 6),
        }
        for i in range(n)
    ]
    plan = {
        "policy": decision.policy,
        "prompt_tokens": typical.PROMPT,
        "candidates": candidates,
        "models": dict(config.models),
        "prompts_read_by": _reads(config),
        "learned_policies_by": "plain" if actor.Compiled is None else "compiled",
    }
    return plan, refusal


def _reads(config: Config) -> str:
    """What reads prompts."""
    reading = Reading()
    reading.adopt(config.classify, ())
    return reading.by


def _typical(config: Config) -> tuple[Decision, Observation, str | None]:
    backends = config.facts()
    chooser, refusal = chosen(config, backends)
    if config.policy.follows:
        taken = take(config.policy.dir, [typical.observation(config)])
        chooser = chooser if taken.standing is None else learned(taken.standing, config, backends)
        refusal = next(iter(taken.refusals), refusal if taken.standing is None else None)
    fleet = Fleet(calibrated(backends, chooser.calibration))
    decision, observation = decide(typical.ask(config), fleet.view(0.0), replace(chooser, explore=0.0), draw=0.0, id="check")
    return decision, observation, refusal


def _print(config: Config, findings: list[Finding], plan: dict[str, Any], refusal: str | None) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120)
    table = Table(title="backends", title_justify="left")
    for name in ("backend", "model", "profile", "ready", "running", "context", "load from"):
        table.add_column(name)
    for f in findings:
        table.add_row(f.backend, f.model, f.profile, "yes" if f.ready else "no", _dash(f.running), _dash(f.context), _dash(f.load_from))
    console.print(table)
    for f in findings:
        for problem in f.problems:
            console.print(f"[red]problem[/red] {f.backend}: {problem}", highlight=False)
        for remark in f.remarks:
            console.print(f"[yellow]remark[/yellow]  {f.backend}: {remark}", highlight=False)
    _print_plan(console, config, plan)
    if refusal is not None:
        console.print(f"[red]problem[/red] {refusal}", highlight=False)
    console.print("[red]not ok[/red]" if refusal or any(f.problems for f in findings) else "[green]ok[/green]")


def _print_plan(console: Console, config: Config, plan: dict[str, Any]) -> None:
    console.print(
        f"prompts are read by: {plan['prompts_read_by']}; learned policies decide by: {plan['learned_policies_by']}", highlight=False
    )
    console.print("models: " + "; ".join(f"{alias} → {', '.join(names)}" for alias, names in config.models.items()), highlight=False)
    table = Table(title=f"a prompt of {typical.PROMPT} tokens on the idle fleet, by {plan['policy']}", title_justify="left")
    for name in ("backend", "budget", "chance", "first token", "per token", "quality", "on time", "cost"):
        table.add_column(name, justify="right" if name != "backend" else "left")
    for c in plan["candidates"]:
        numbers = (
            f"{c['ttft_s'] * 1000:.0f} ms",
            f"{c['tpot_s'] * 1000:.1f} ms",
            f"{c['quality']:.2f}",
            f"{c['p_on_time']:.0%}",
            _cost(c["usd"]),
        )
        table.add_row(c["backend"], c["budget"], f"{c['probability']:.0%}", *numbers)
    console.print(table)


def _cost(usd: float) -> str:
    return f"${usd:.5f}" if usd else "–"


def _dash(value: object) -> str:
    return "–" if value is None else str(value)


def _plainly(reason: str) -> str:
    return {"connect_timeout": "no answer", "ConnectionRefusedError": "connection refused", "gaierror": "no such host"}.get(reason, reason)

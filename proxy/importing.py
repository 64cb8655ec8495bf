"""A LiteLLM proxy's config as one of ours: what each of its words becomes here, and which have no counterpart.

Model names are kept as aliases, so that clients change nothing but the URL. Several deployments of one name become several backends of one
alias, among which the policy chooses; `auto` is all that chat. What is not carried over is said, key by key: nothing is dropped in silence.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import yaml

from .config_file import BadConfig, Problem
from .config_words import ALIAS
from .dialects import providers

ENVIRON = "os.environ/"
LIMITS = {"rpm": "requests_per_minute", "tpm": "tokens_per_minute", "max_parallel_requests": "max_in_flight"}
PRICES = {
    "input_cost_per_token": "usd_per_million_input",
    "output_cost_per_token": "usd_per_million_output",
    "cache_read_input_token_cost": "usd_per_million_cached",
}
SPEND = {"1h": "usd_per_hour", "60m": "usd_per_hour", "1d": "usd_per_day", "24h": "usd_per_day"}
RETRIES = "whoever fails is replaced by another backend of the same name, each tried once"
WHY = {
    "litellm_params.weight": "the policy weighs the live load",
    "litellm_params.order": "the policy weighs the live load",
    "litellm_params.tags": "requests are not routed by tags",
    "litellm_params.timeout": "timeouts hold for all backends: set timeouts.total_ms",
    "litellm_params.stream_timeout": "timeouts hold for all backends: set timeouts.first_token_ms",
    "litellm_params.max_retries": RETRIES,
    "litellm_params.num_retries": RETRIES,
    "router_settings.num_retries": RETRIES,
    "router_settings.retry_after": RETRIES,
    "litellm_settings.num_retries": RETRIES,
    "general_settings.database_url": "keys are in the config, made known by their hash: see keys",
    "litellm_settings.cache": "answers are not cached",
    "litellm_settings.callbacks": "see metrics and the replay log",
    "litellm_settings.success_callback": "see metrics and the replay log",
    "litellm_settings.failure_callback": "see metrics and the replay log",
    "environment_variables": "set them in the environment that starts bestserve",
}
OF_ITS_OWN = ("id", "db_model", "base_model", "mode", "max_input_tokens", *PRICES)
"""What `model_info` may hold that is used, or means nothing to anybody else."""


@dataclass(slots=True)
class Imported:
    """What came of a file."""

    config: dict[str, Any]
    unmatched: list[tuple[str, str]] = field(default_factory=list)  # (key of LiteLLM's, what to know)
    groups: dict[str, list[str]] = field(default_factory=dict)  # model name to backends
    embeds: set[str] = field(default_factory=set)  # backends that only embed

    def say(self, key: str, why: str = "") -> None:
        """Note what has no counterpart."""
        self.unmatched.append((key, why or WHY.get(re.sub(r"^model_list\[\d+\]\.", "", key), "no counterpart")))

    def yaml(self) -> str:
        """The config as a file."""
        return yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True, width=140)


def translate(text: str, environ: Mapping[str, str], *, source: str) -> Imported:
    """A LiteLLM config as one of ours. Raises BadConfig."""
    said = _read(text, source)
    made = Imported({"backends": []})
    deployments = said.pop("model_list")
    general = _section(said, "litellm_settings", source)
    for i, deployment in enumerate(deployments):
        _deployment(made, f"model_list[{i}]", deployment, general.get("drop_params"), source)
    if not made.groups:
        raise BadConfig([Problem(None, "model_list", "holds no model that can be asked")], source=source)
    made.config["models"] = made.groups
    _router(made, "router_settings", _section(said, "router_settings", source))
    _router(made, "litellm_settings", general)
    _general(made, _section(said, "general_settings", source), environ)
    chatting = [backend["name"] for backend in made.config["backends"] if backend["name"] not in made.embeds]
    if chatting:
        made.groups.setdefault("auto", chatting)
    for key in said:
        made.say(key)
    return made


def _read(text: str, source: str) -> dict[str, Any]:
    try:
        said = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = Problem(None if mark is None else mark.line + 1, "", f"is not YAML: {getattr(error, 'problem', error)}")
        raise BadConfig([problem], source=source) from error
    if not isinstance(said, dict) or not isinstance(said.get("model_list"), list):
        raise BadConfig([Problem(None, "model_list", "is missing, or no list: is this a LiteLLM config?")], source=source)
    return said


def _section(said: dict[str, Any], name: str, source: str) -> dict[str, Any]:
    section = said.pop(name, None) or {}
    if not isinstance(section, dict):
        raise BadConfig([Problem(None, name, "must be a mapping")], source=source)
    return dict(section)


# --- a deployment is a backend ---


def _deployment(made: Imported, at: str, said: Any, drop_params: Any, source: str) -> None:
    params = said.get("litellm_params") if isinstance(said, dict) else None
    if not isinstance(params, dict) or not isinstance(params.get("model"), str) or not isinstance(said.get("model_name"), str):
        raise BadConfig([Problem(None, at, "must have model_name and litellm_params.model")], source=source)
    group, params, info = said["model_name"], dict(params), said.get("model_info") or {}
    if "*" in group or not re.fullmatch(ALIAS, group):
        made.say(f"{at}.model_name", f"{group!r} is no name that a request can say: list the models one by one")
        return
    backend: dict[str, Any] = {"name": _name(group, made)}
    terms = {key: value for key, value in said.items() if key in LIMITS} | info | params
    _terms(made, at, backend, terms)
    for key in (*LIMITS, *PRICES):
        params.pop(key, None)
    provider, model = params.pop("custom_llm_provider", None), params.pop("model")
    model = f"{provider}/{model}" if provider else model
    try:
        known = _known(model)
    except ValueError as error:
        made.say(f"{at}.litellm_params.model", f"left out: {error}")
        return
    options = _options(made, at, params)
    if not _direct(backend, model, options, known):
        _through_litellm(made, at, backend, model, options | ({"drop_params": True} if drop_params else {}), known)
    if info.get("mode") == "embedding" or known.capabilities == {"embeddings"}:
        backend["capabilities"] = ["embeddings"]
        made.embeds.add(backend["name"])
    for key in info.keys() - set(OF_ITS_OWN):
        made.say(f"{at}.model_info.{key}")
    made.config["backends"].append(backend)
    made.groups.setdefault(group, []).append(backend["name"])


def _name(group: str, made: Imported) -> str:
    """A backend's name, unlike every alias: the model name's and a number."""
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", group)[:56]
    taken = {backend["name"] for backend in made.config["backends"]}
    return next(name for name in (f"{stem}.{n}" for n in range(1, 1_000_000)) if name not in taken)


def _terms(made: Imported, at: str, backend: dict[str, Any], terms: Mapping[str, Any]) -> None:
    """Rates, prices, caps and context."""
    backend |= {ours: terms[theirs] for theirs, ours in LIMITS.items() if terms.get(theirs)}
    prices = {ours: round(float(terms[theirs]) * 1e6, 6) for theirs, ours in PRICES.items() if terms.get(theirs) is not None}
    if prices:
        backend |= {"usd_per_million_input": 0.0, "usd_per_million_output": 0.0} | prices
    if terms.get("max_input_tokens"):
        backend["context"] = terms["max_input_tokens"]
    if terms.get("max_budget") is not None:
        window = SPEND.get(str(terms.get("budget_duration")))
        if window:
            backend["spend"] = {window: terms["max_budget"]}
        else:
            made.say(f"{at}.litellm_params.max_budget", "a cap is over an hour or a day: set backends[].spend")


def _options(made: Imported, at: str, params: dict[str, Any]) -> dict[str, Any]:
    """What else LiteLLM is told of a deployment, and has to be told by us."""
    options = {}
    for key, value in params.items():
        if key in ("max_budget", "budget_duration") or value is None:
            continue
        if f"litellm_params.{key}" in WHY:
            made.say(f"{at}.litellm_params.{key}")
        elif isinstance(value, bool | int | float | str | date):
            options[key] = _value(value)
        else:
            made.say(f"{at}.litellm_params.{key}", "only single values are passed on to LiteLLM")
    return options


def _value(value: Any) -> Any:
    """As our config writes it: variables of the environment by `${NAME}`."""
    if isinstance(value, date):
        return value.isoformat()
    if not isinstance(value, str):
        return value
    if value.startswith(ENVIRON):
        return f"${{{value.removeprefix(ENVIRON)}}}"
    return value.replace("${", "$${")


def _known(model: str) -> providers.Known:
    """What LiteLLM knows of a model; nothing where it is not installed. Raises ValueError where it knows no provider of it."""
    try:
        return providers.known(model)
    except ImportError:
        return providers.NOTHING


def _direct(backend: dict[str, Any], model: str, options: Mapping[str, Any], known: providers.Known) -> bool:
    """Whether it is a server of one's own, without a price, that is asked without LiteLLM in between; then it is told how."""
    kind, _, name = model.partition("/")
    base = str(options.get("api_base", "")).rstrip("/")
    mine = (
        kind in ("openai", "hosted_vllm") and base.startswith("http") and base.endswith("/v1") and options.keys() <= {"api_base", "api_key"}
    )
    if not mine or known.tariff is not None or "usd_per_million_input" in backend:
        return False
    backend |= {"engine": "vllm" if kind == "hosted_vllm" else "openai", "url": base.removesuffix("/v1"), "model": name}
    backend |= {"profile": "provider"} | ({"api_key": options["api_key"]} if "api_key" in options else {})
    return True


def _through_litellm(made: Imported, at: str, backend: dict[str, Any], model: str, options: dict[str, Any], known: providers.Known) -> None:
    backend |= {"engine": "litellm", "model": model}
    if "api_key" in options:
        backend["api_key"] = key if (key := options.pop("api_key")) not in ("none", "") else "no-key"  # none is no text here
    if known.tariff is None and "usd_per_million_input" not in backend:
        backend |= {"usd_per_million_input": 0.0, "usd_per_million_output": 0.0}
        made.say(
            f"{at}.litellm_params.model", f"LiteLLM knows no price of {model!r}, and counts it as free; so does this config: correct it"
        )
    if options:
        backend["litellm"] = options


# --- the rest ---


def _router(made: Imported, section: str, said: dict[str, Any]) -> None:
    """What it says of failures, waiting and replacements."""
    for key, value in said.items():
        if key in TIMES:
            part, ours, by = TIMES[key]
            made.config.setdefault(part, {})[ours] = value * by
        elif key in RULES:
            RULES[key](made, f"{section}.{key}", value)
        elif key != "drop_params":  # which is with the backends
            made.say(f"{section}.{key}")


TIMES = {
    "allowed_fails": ("circuit", "failures", 1),
    "cooldown_time": ("circuit", "open_ms", 1000.0),
    "timeout": ("timeouts", "total_ms", 1000.0),
    "request_timeout": ("timeouts", "total_ms", 1000.0),
    "stream_timeout": ("timeouts", "first_token_ms", 1000.0),
}


def _aliases(made: Imported, at: str, value: Any) -> None:
    for alias, said in (value or {}).items():
        group = said.get("model") if isinstance(said, dict) else said
        if group in made.groups:
            made.groups[alias] = list(made.groups[group])
        else:
            made.say(f"{at}.{alias}", f"there is no model {group!r}")


def _strategy(made: Imported, at: str, value: Any) -> None:
    made.say(at, f"{value!r}: here policy.fallback decides; {_INSTEAD.get(value, 'the default weighs load and price')}")


_INSTEAD = {
    "simple-shuffle": "`random` is the nearest",
    "least-busy": "`least-loaded` is the nearest",
    "usage-based-routing": "`least-loaded` is the nearest",
    "usage-based-routing-v2": "`least-loaded` is the nearest",
    "latency-based-routing": "`deadline-greedy`, the default, is the nearest",
    "cost-based-routing": "`bid-price` with a high policy.usd_weight is the nearest",
}


def _fallbacks(made: Imported, at: str, value: Any) -> None:
    """Whoever may replace a group joins it, after its own."""
    for rule in value or ():
        for group, others in rule.items():
            members = [name for other in others for name in made.groups.get(other, ())] if isinstance(others, list) else []
            if group not in made.groups or not members:
                made.say(at, f"{group!r}: there is no such model, or none of those that replace it")
                continue
            made.groups[group] = list(dict.fromkeys([*made.groups[group], *members]))
            made.say(at, f"the backends of {', '.join(map(str, others))} answer {group!r} too: not only when others fail")


RULES = {"fallbacks": _fallbacks, "model_group_alias": _aliases, "routing_strategy": _strategy}


def _general(made: Imported, said: dict[str, Any], environ: Mapping[str, str]) -> None:
    key = said.pop("master_key", None)
    if key is not None:
        made.config["keys"] = [{"name": "master", "sha256": _hash(made, str(key), environ), "admin": True}]
    for name in said:
        made.say(f"general_settings.{name}")


def _hash(made: Imported, key: str, environ: Mapping[str, str]) -> str:
    """Of the master key; where the environment does not hold it now, of a variable that has to be set: nobody gets in without."""
    if not key.startswith(ENVIRON):
        return hashlib.sha256(key.encode()).hexdigest()
    name = key.removeprefix(ENVIRON)
    if name in environ:
        return hashlib.sha256(environ[name].encode()).hexdigest()
    made.say("general_settings.master_key", f"{name} is not set now: set {name}_SHA256 to its hash (`printf %s KEY | sha256sum`)")
    return f"${{{name}_SHA256}}"

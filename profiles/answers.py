"""How long a model's answers are when nobody limits them, and what a limit does to their quality.

Both are complete over TASKS: what a profile does not say is filled in from the tables here.

Facts · Lengths: Auto-J's test set has two chat models' answers to 24 prompts in each of 58 scenarios (GAIR-NLP/auto-j@2ae17a3). The
medians below are the geometric means of the scenarios of a task, at 3.5 characters a token for code, 3.1 for mathematics and 4.3 for
prose; the sigmas join the spread inside the scenarios with that between them. Over all tasks that is near what Azure's 2023 trace of
conversations shows (AzurePublicDataset, median 129 tokens, sigma 0.93).

Being asked to be short: AlpacaEval 2 put each of its 805 open questions to five chat models plainly and with "be concise"
(tatsu-lab/alpaca_eval@cd543a1). The concise answers were 0.52 to 0.62 times as long (median 0.55), and won 0.72 to 0.97 times as often
against the same rival, with the judge's love of length controlled for (median 0.82): GPT-4 Turbo 41.9 of 50.0, GPT-4 21.6 of 30.2, Claude
2.1 18.2 of 25.3, GPT-3.5 Turbo 15.8 of 19.3, Mixtral 8x7B 23.0 of 23.7. These stand for `chat` and `write`. Questions with one right
answer, reasoned briefly instead of at length (Renze and Guven, arXiv 2401.05618): 0.51 times as long and hardly worse (`qa`), but for
mathematics, where GPT-3.5 kept 0.72 of its marks and GPT-4 all of them; `math` is between them. The rest is assumed.

Being cut: assumed throughout. Half a program does not run and half a JSON object does not parse, while half an explanation explains
something.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .numbers import BadProfile, Reader
from .tasks import TASKS


@dataclass(frozen=True, slots=True)
class Answers:
    """How long whole answers are: log-normal, in tokens."""

    median: float  # tokens, > 0
    sigma: float  # standard deviation of log(tokens), > 0


def _over_tasks(rest: float, **these: float) -> dict[str, float]:
    """A complete table: what is given for some tasks, and `rest` for all others."""
    return {task: these.get(task, rest) for task in TASKS}


def usual_lengths() -> dict[str, Answers]:
    """Lengths for a model of which nothing is known."""
    median = _over_tasks(100, code=230, math=140, qa=110, extract=57, summ=130, rewrite=130, translate=30, write=270, classify=47)
    sigma = _over_tasks(1.1, code=1.0, math=1.25, extract=1.2, rewrite=1.5, write=0.8, classify=1.3, chat=1.15)
    return {task: Answers(median[task], sigma[task]) for task in TASKS}


def _kept_when_cut() -> dict[str, float]:
    return _over_tasks(0.3, code=0, math=0, extract=0, classify=0)


def _kept_when_concise() -> dict[str, float]:
    return _over_tasks(0.95, code=0.9, math=0.85, qa=0.98, write=0.82, chat=0.82)


def _length_when_concise() -> dict[str, float]:
    return _over_tasks(0.55, code=0.7, math=0.51, qa=0.51, extract=0.8, rewrite=0.9, translate=1.0)


@dataclass(frozen=True, slots=True)
class BudgetEffect:
    """What a response budget does to an answer. Three tables over TASKS, all in [0, 1]."""

    kept_when_cut: Mapping[str, float] = field(default_factory=_kept_when_cut)  # share of quality an answer keeps that breaks off
    kept_when_concise: Mapping[str, float] = field(default_factory=_kept_when_concise)  # ... that was asked to be short, and ended
    length_when_concise: Mapping[str, float] = field(default_factory=_length_when_concise)  # its length, of the unlimited; > 0


def read_lengths(reader: Reader) -> dict[str, Answers]:
    """Entries like `code = { median = 220, sigma = 0.9, source = "…", how = "…" }`; the two numbers share their source."""
    reader.only(TASKS)
    return {task: _answers(reader.at(task)) for task in TASKS if task in reader}


def _answers(reader: Reader) -> Answers:
    reader.only(("median", "sigma", "source", "how", "error"))
    if reader.table.keys() & {"source", "how", "error"}:
        reader.keep_source()
    return Answers(median=reader.positive("median"), sigma=reader.positive("sigma"))


def read_budget_effect(reader: Reader) -> BudgetEffect:
    usual = BudgetEffect()
    reader.only(("kept_when_cut", "kept_when_concise", "length_when_concise"))
    shorter = read_shares(reader.at("length_when_concise", optional=True))
    for task, share in shorter.items():
        if share == 0:
            raise BadProfile(f"{reader.path}length_when_concise.{task}: must be greater than 0, is 0.0")
    return BudgetEffect(
        kept_when_cut={**usual.kept_when_cut, **read_shares(reader.at("kept_when_cut", optional=True))},
        kept_when_concise={**usual.kept_when_concise, **read_shares(reader.at("kept_when_concise", optional=True))},
        length_when_concise={**usual.length_when_concise, **shorter},
    )


def read_shares(reader: Reader) -> dict[str, float]:
    """A number in [0, 1] for some of the tasks, in the order of TASKS."""
    reader.only(TASKS)
    return {task: reader.share(task) for task in TASKS if task in reader}

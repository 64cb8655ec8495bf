"""From runs to constants, predictions and what the file says; as tables, JSON and a picture."""

import io
import random
from dataclasses import asdict, replace

import orjson
import pytest
from rich.console import Console

from bestserve.profiles.schema import Engine
from bestserve.proxy.dialects.sglang import Limits
from bestserve.proxy.profiling import plots, report
from bestserve.proxy.profiling.conclude import Result, conclude
from bestserve.proxy.profiling.plan import Plan
from bestserve.proxy.profiling.refuse import CannotMeasure
from bestserve.proxy.profiling.runs import Header, Run
from bestserve.proxy.profiling.script import Script
from bestserve.proxy.profiling.write import Change
from tests.proxy.profiling.world import KNOWN, play

HEADER = Header("http://a", "m", "completions", asdict(Limits(16, None, 40_000, 4_096, 2_048, True, "0.5.23", None, 1)))


def measured(rounds: int = 3) -> list[Run]:
    plan, dice = Plan(KNOWN, 200.0), random.Random(1)
    scripts = [one for i in range(rounds) for one in plan.round(("prefill", "decode", "remember"), i)] + plan.mixes(1, 50.0)
    return [play(one, KNOWN, 0.05, dice.randrange(1 << 40)) for one in scripts]


@pytest.fixture(scope="module")
def result() -> Result:
    return conclude(HEADER, measured(), {}, command="bestserve profile --model m", today="2026-11-22")


def test_a_result_has_every_constant_with_its_source(result: Result) -> None:
    """Fitted ones with an error, limits as the backend said them; and the engine that they make."""
    assert result.numbers["step_fixed_s"][1].source == "bestserve profile on 2026-11-22, SGLang 0.5.23"
    assert result.numbers["kv_tokens"][0] == result.engine.kv_tokens == 40_000
    assert result.engine.step_fixed_s == pytest.approx(0.01, rel=0.05)
    assert all(source.error for name, (_, source) in result.numbers.items() if name in result.estimates)


def test_the_comment_tells_command_runs_and_how_well_it_predicts(result: Result) -> None:
    """So that the file answers for itself."""
    assert "Measured on 2026-11-22 with: bestserve profile --model m" in result.comment
    assert f"{result.runs} runs" in result.comment
    assert "ttft       median" in result.comment
    assert "prompts of up to 2048 tokens" in result.comment


def test_what_a_reader_should_know_is_among_the_warnings() -> None:
    """Failed and disturbed runs, no mixes, no cache."""
    runs = [run for run in measured(2) if run.kind not in ("mix", "remember")]
    runs[0] = replace(runs[0], failed="closed")
    runs[1] = replace(runs[1], foreign=4)

    told = " ".join(conclude(HEADER, runs, {}, command="c", today="t").warnings)

    assert "1 of" in told
    assert "up to 4 requests beyond ours" in told
    assert "no mix was played" in told
    assert "the cost of a remembered prefix was not measured" in told


def test_a_machine_that_was_not_at_rest_is_told(result: Result) -> None:
    """Runs that take up to four times what they should: constants known only roughly are named; at rest nothing is said."""
    dice = random.Random(1)
    runs = [play(Script(r.kind, r.key, r.calls), slowed(4 ** dice.random()), 0.05) for r in measured(2)]

    told = " ".join(conclude(HEADER, runs, {}, command="c", today="t").warnings)

    assert "known only roughly, " in told
    assert "step_fixed_s to " in told
    assert not any("roughly" in warning for warning in result.warnings)


def slowed(times: float) -> Engine:
    per_step = {name: getattr(KNOWN, name) * times for name in ("step_fixed_s", "step_per_seq_s", "step_per_kv_token_s", "prefill_fixed_s")}
    return replace(KNOWN, prefill_tokens_per_s=KNOWN.prefill_tokens_per_s / times, **per_step)


def test_too_little_is_refused() -> None:
    """A handful of runs is no profile."""
    with pytest.raises(CannotMeasure, match="too few points"):
        conclude(HEADER, measured()[:4], {}, command="c", today="t")


def test_json_has_what_the_tables_show(result: Result, tmp_path) -> None:
    """Constants, intervals, validation, comparison; and it can be serialised."""
    changed = [Change("step_fixed_s", 0.02, 0.01, within=False)]

    said = orjson.loads(orjson.dumps(report.as_json(result, changed, tmp_path / "x.toml")))

    low, high = said["intervals"]["step_fixed_s"]
    assert low < said["engine"]["step_fixed_s"]["value"] < high
    assert set(said["validation"]) == {"ttft", "tpot", "throughput"}
    assert said["compared"] == [{"name": "step_fixed_s", "old": 0.02, "new": 0.01, "within": False, "ratio": 0.5}]


def test_tables_are_readable(result: Result, tmp_path) -> None:
    """Values with units, intervals, old against new."""
    out = io.StringIO()
    report.show(Console(file=out, width=120), result, [Change("step_fixed_s", 0.02, 0.01, within=False)], tmp_path / "x.toml")

    said = out.getvalue()
    assert "prefill_tokens_per_s" in said
    assert "/s …" in said
    assert "20 ms" in said
    assert "time to first token" in said
    assert "note" in said


@pytest.mark.parametrize("kind", ["png", "html"])
def test_a_picture_needs_nothing_else(result: Result, tmp_path, kind: str) -> None:
    """A PNG, or a page with the PNG inside and no address to fetch."""
    path = tmp_path / f"plot.{kind}"
    plots.draw(result, "a <title>", path)

    whole = path.read_bytes()
    if kind == "png":
        assert whole.startswith(b"\x89PNG")
        return
    assert b"data:image/png;base64," in whole
    assert b"a &lt;title&gt;" in whole
    assert b"http" not in whole

"""`bestserve quality` from its command line to its files, against scripted backends and through the proxy."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from bestserve import profiles
from bestserve.proxy.cli import main

from .world import PROFILE, Backend, answer, completion, nothing, refuse, say, world

pytestmark = pytest.mark.anyio

CAPITALS = {"France": "Paris", "Japan": "Tokyo", "Peru": "Lima", "Kenya": "Nairobi", "Norway": "Oslo", "Cuba": "Havana"}
ROWS = [
    {
        "id": f"q{i}",
        "task": "qa",
        "prompt": f"What is the capital of {land}?",
        "check": "contains",
        "answer": [city],
        "difficulty": 1 + i % 5,
    }
    for i, (land, city) in enumerate(CAPITALS.items())
] + [{"id": f"m{i}", "task": "math", "prompt": f"Work out {i} + {i}.", "check": "number", "answer": 2 * i} for i in range(4)]


def knowing(wrong=()):
    """A model that knows the answers and puts them after ten words, or after two when told to be brief; a cap cuts it, by the word."""

    async def script(got, writer):
        body = got.json()
        asked = body["messages"][-1]["content"]
        right = next((str(city) for land, city in CAPITALS.items() if land in asked), None) or _sum(asked)
        said = "it is" if "Be brief." in asked else "well now let me think about this the answer is"
        words = [*said.split(), "wrong" if any(w in asked for w in wrong) else right][: body["max_tokens"]]
        finish = "stop" if words[-1] in (right, "wrong") else "length"
        writer.write(answer(orjson.dumps(completion(" ".join(words), model=body["model"], finish=finish, tokens=len(words)))))

    return script


def _sum(asked):
    return str(2 * int(asked.split()[2]))


@pytest.fixture
async def backend():
    backend = Backend("a")
    await backend.start()
    yield backend
    await backend.stop()


@pytest.fixture
def mine(tmp_path) -> Path:
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    return path


async def quality(folder: Path, port: int, *more: str, model: str = "m", url: str = "") -> Result:
    """The verb, in a thread beside this loop."""
    command = ["quality", "--url", url or f"http://127.0.0.1:{port}", "--model", model, "--answers", str(folder / "a.jsonl"), *more]
    return await asyncio.to_thread(CliRunner().invoke, main, command, env={"QUALITY_KEY": "sesame"})


async def test_a_backend_is_scored_under_each_budget(backend, mine, tmp_path):
    """Quality, cuts, lengths and what budgets do, as the script makes them; one prompt is answered wrongly."""
    backend.script = knowing(wrong=["Peru"])

    done = await quality(tmp_path, backend.port, "--prompts", str(mine), "--budgets", "none,5,64:Be brief.", "--json")

    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    qa, free = told["tasks"]["qa"], told["tasks"]["qa"]["budgets"]["none"]
    assert [b["name"] for b in told["budgets"]] == ["none", "5", "64*"]
    assert free["quality"]["value"] == pytest.approx(5 / 6)
    assert (free["cut"], free["length"]["median"]) == (0, pytest.approx(11))
    assert qa["budgets"]["5"]["quality"]["value"] == 0
    assert qa["budgets"]["5"]["cut"] == 1
    assert qa["kept_when_cut"]["value"] == 0
    assert qa["kept_when_concise"]["value"] == 1
    assert qa["length_when_concise"]["ratio"] == pytest.approx(3 / 11)
    assert told["tasks"]["math"]["budgets"]["none"]["quality"]["value"] == 1


async def test_a_backend_is_asked_as_the_proxy_would(backend, mine, tmp_path):
    """The cap in max_tokens, the instruction at the end of the last user message; the key, a fixed seed, no heat, and what --body adds."""
    backend.script = knowing()

    flags = ["--prompts", str(mine), "--tasks", "qa", "--per-task", "1", "--budgets", "none,7:Be brief.", "--longest", "99"]
    done = await quality(tmp_path, backend.port, *flags, "--key-env", "QUALITY_KEY", "--body", '{"chat_template_kwargs": {"a": false}}')

    assert done.exit_code == 0, done.output
    free, capped = sorted((got.json() for got in backend.got), key=lambda body: -body["max_tokens"])
    assert (free["max_tokens"], capped["max_tokens"]) == (99, 7)
    assert capped["messages"][-1]["content"] == free["messages"][-1]["content"] + "\n\nBe brief."
    assert (free["temperature"], free["seed"], free["chat_template_kwargs"]) == (0, 0, {"a": False})
    assert backend.got[0].headers["authorization"] == "Bearer sesame"
    assert "7*: with 'Be brief.'" in done.output


async def test_what_is_kept_is_not_asked_again(backend, mine, tmp_path):
    """A second run asks nothing and says the same; a changed prompt is asked; --fresh asks everything."""
    backend.script = knowing()
    flags = ["--prompts", str(mine), "--json"]
    first = await quality(tmp_path, backend.port, *flags)
    asked = len(backend.got)

    second = await quality(tmp_path, backend.port, *flags)
    assert (len(backend.got), second.output) == (asked, first.output)

    mine.write_text(mine.read_text().replace("Work out 3 + 3.", "Work out 3 + 3 ."))
    await quality(tmp_path, backend.port, *flags)
    assert len(backend.got) == asked + 1

    await quality(tmp_path, backend.port, *flags, "--fresh")
    assert len(backend.got) == 2 * asked + 1


async def test_an_interrupted_run_goes_on_where_it_was(backend, mine, tmp_path):
    """Ctrl-C in the middle: what has come is kept, the process says so and ends with 130; the next run asks the rest."""
    knows = knowing()

    async def only_four(got, writer):
        await (knows if len(backend.got) <= 4 else nothing)(got, writer)

    backend.script = only_four
    flags = ["--url", f"http://127.0.0.1:{backend.port}", "--model", "m", "--prompts", str(mine), "--concurrency", "1"]
    command = [sys.executable, "-m", "bestserve.proxy", "quality", *flags, "--answers", str(tmp_path / "a.jsonl")]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        while len(backend.got) < 5:
            await asyncio.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()

    assert process.returncode == 130
    assert out == b""
    assert b"interrupted at 4 of 10 answers; 4 answers are kept in" in err
    assert b"Traceback" not in err

    backend.script = knows
    done = await quality(tmp_path, backend.port, "--prompts", str(mine), "--json")
    assert done.exit_code == 0
    assert len(backend.got) == 5 + 6
    assert json.loads(done.output)["tasks"]["qa"]["budgets"]["none"]["quality"]["n"] == 6


async def test_no_more_are_asked_at_once_than_allowed(backend, mine, tmp_path):
    """Two at a time, and two where two are allowed."""
    now, most = 0, 0
    knows = knowing()

    async def slow(got, writer):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        await knows(got, writer)

    backend.script = slow
    await quality(tmp_path, backend.port, "--prompts", str(mine), "--concurrency", "2")

    assert most == 2


async def test_a_profile_is_merged(backend, mine, tmp_path):
    """From the base's numbers towards what was seen, with n and prior in the source; the table says before and after."""
    backend.script = knowing()
    base, out = tmp_path / "base.toml", tmp_path / "new.toml"
    base.write_text(PROFILE)

    done = await quality(tmp_path, backend.port, "--prompts", str(mine), "--merge", str(base), "--out", str(out), "--budgets", "none,5")

    assert done.exit_code == 0, done.output
    new = profiles.load(out)
    assert new.quality["qa"] == pytest.approx((5 * 0.5 + 6) / 11, abs=1e-3)
    assert new.quality["chat"] == 0.5
    assert "mine.jsonl: 1.000 over n=6; prior 0.5 as 5 answers" in new.sources["quality.qa"].source
    assert new.lengths["qa"].median < profiles.load(base).lengths["qa"].median
    assert new.budget_effect.kept_when_cut["qa"] < profiles.load(base).budget_effect.kept_when_cut["qa"]
    assert "quality.qa" in done.output


async def test_a_busy_backend_is_asked_again(backend, mine, tmp_path):
    """A refusal that passes costs nothing but time."""
    knows = knowing()
    busy = refuse(503)

    async def first_no(got, writer):
        await (busy if len(backend.got) == 1 else knows)(got, writer)

    backend.script = first_no
    done = await quality(tmp_path, backend.port, "--prompts", str(mine), "--json")

    assert done.exit_code == 0, done.output
    assert not json.loads(done.output)["remarks"]


async def test_answers_that_could_not_end_are_remarked_on(backend, mine, tmp_path):
    """Where --longest cuts what no budget should."""
    backend.script = knowing()

    done = await quality(tmp_path, backend.port, "--prompts", str(mine), "--longest", "16", "--json")
    assert json.loads(done.output)["remarks"] == []
    backend.script = say("word " * 20, finish="length")
    done = await quality(tmp_path, backend.port, "--prompts", str(mine), "--longest", "17", "--json")

    (remark,) = json.loads(done.output)["remarks"]
    assert remark.startswith("10 of 10 answers under none broke off at --longest 17")


async def test_one_prompt_without_an_answer_is_told(backend, mine, tmp_path):
    """The others count, the exit code is 1, and the next run asks for that one again."""
    knows = knowing()
    too_long = refuse(400, {"message": "too long"})

    async def not_peru(got, writer):
        await (too_long if "Peru" in got.json()["messages"][0]["content"] else knows)(got, writer)

    backend.script = not_peru
    done = await quality(tmp_path, backend.port, "--prompts", str(mine), "--json")

    assert done.exit_code == 1
    told = json.loads(done.output)
    assert told["remarks"] == ["q2 under none: HTTP 400: too long"]
    assert told["tasks"]["qa"]["budgets"]["none"]["quality"]["n"] == 5

    backend.script = knows
    assert (await quality(tmp_path, backend.port, "--prompts", str(mine), "--json")).exit_code == 0


@pytest.mark.parametrize(("status", "why"), [(401, "no key"), (404, "no such model")])
async def test_what_no_prompt_could_change_ends_the_run(backend, mine, tmp_path, status, why):
    """A wrong key or model is told at once, and not 283 times."""
    backend.script = refuse(status, {"error": {"message": why}})

    done = await quality(tmp_path, backend.port, "--prompts", str(mine), "--concurrency", "1")

    assert done.exit_code == 1
    assert f"HTTP {status}: {why}" in done.output
    assert len(backend.got) == 1


async def test_an_answer_that_is_none_is_no_answer(backend, mine, tmp_path):
    """A page of HTML is told as such, for each prompt, until it is clear that nothing else will come."""

    async def page(got, writer):
        writer.write(answer(b"<html>", kind="text/html"))

    backend.script = page
    done = await quality(tmp_path, backend.port, "--prompts", str(mine), "--concurrency", "1")

    assert done.exit_code == 1
    assert "8 prompts in a row got no answer, the last one because: the answer is not a chat completion" in done.output


async def test_through_the_proxy_a_backends_name_pins_it(mine, tmp_path):
    """Every prompt reaches that backend and no other, although the policy prefers another; the caps are the asker's."""
    async with world(tmp_path, "a", "b") as w:
        w.backends["a"].script = say("somebody else")
        w.backends["b"].script = knowing()

        done = await quality(tmp_path, 0, "--prompts", str(mine), "--budgets", "none,5", "--json", model="b", url=w.base_url)

    assert done.exit_code == 0, done.output
    assert not w.backends["a"].got
    assert {got.json()["max_tokens"] for got in w.backends["b"].got} == {2048, 5}
    assert json.loads(done.output)["tasks"]["qa"]["budgets"]["none"]["quality"]["value"] == 1


async def test_a_budget_that_the_proxy_set_is_not_taken_for_ours(mine, tmp_path):
    """An answer under the policy's own budget is no answer to the question, and the remark says what to do."""
    async with world(tmp_path, "a", more="budgets: [none, 4]", policy="static:a@4") as w:
        w.backends["a"].script = knowing()

        done = await quality(tmp_path, 0, "--prompts", str(mine), "--concurrency", "1", model="a", url=w.base_url)

    assert done.exit_code == 1
    assert "the proxy set a budget of 4 tokens by itself" in done.output


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--budgets", "lots"], "'lots' is not a budget"),
        (["--tasks", "maths"], "--tasks maths: not one of code"),
        (["--tasks", "code"], "no prompt of code in"),
        (["--merge", "qwen3-8b-h100"], "--merge and --out go together"),
        (["--merge", "qwen3-8b", "--out", "x.toml"], "is not shipped"),
        (["--merge", "qwen3-8b-h100", "--out", "x.yaml"], "must be a .toml file"),
        (["--merge", "qwen3-8b-h100", "--out", "x.toml", "--budgets", "128"], "--merge needs the budget none"),
        (["--key-env", "NO_SUCH"], "--key-env NO_SUCH: no such variable"),
        (["--body", "[1]"], "--body: must be a JSON object"),
        (["--body", '{"n": "x"}'], "the request cannot be sent"),
    ],
)
async def test_wrong_words_are_told_before_anything_is_asked(backend, mine, tmp_path, flags, why):
    """One line, no trace, no request."""
    done = await quality(tmp_path, backend.port, "--prompts", str(mine), *flags)

    assert done.exit_code == 1
    assert why in done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert not backend.got


async def test_ids_are_ones_own_across_files(backend, mine, tmp_path):
    """The same id in two files is refused, by its name."""
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps(ROWS[0]))

    done = await quality(tmp_path, backend.port, "--prompts", str(mine), "--prompts", str(other))

    assert "id 'q0' stands in more than one of" in done.output

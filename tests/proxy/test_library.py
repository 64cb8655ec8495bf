"""`bestserve profiles`: what ships is told, with its sources."""

import json

import pytest
from click.testing import CliRunner

from bestserve.profiles import load, names
from bestserve.profiles.schema import HOWS
from bestserve.proxy.cli import main


def said(*words):
    result = CliRunner().invoke(main, ["profiles", *words])
    assert result.exit_code == 0, result.output
    return result.output


def test_every_profile_has_its_line():
    """By its whole name, however narrow the rest must be."""
    lines = said().splitlines()

    assert all(any(line.split()[:1] == [name] for line in lines) for name in names())


def test_the_list_can_be_read_by_programs():
    """The same lines as JSON, with the times of the profile's own engine."""
    lines = {line["name"]: line for line in json.loads(said("--json"))}

    assert set(lines) == set(names())
    engine = load("qwen3-8b-h100").engine
    assert lines["qwen3-8b-h100"]["step_64_s"] == pytest.approx(engine.step_s(64, 64 * 500))
    assert sum(lines["qwen3-8b-h100"]["sources"].values()) == len(load("qwen3-8b-h100").sources)


def test_ladders_are_together_from_the_smallest_up():
    """Qwen3 on one kind of GPU reads as a ladder."""
    ladder = [line["name"] for line in json.loads(said("--json")) if line["name"].startswith("qwen3") and line["name"].endswith("-a100")]

    assert ladder == [f"qwen3-{size}-a100" for size in ("0.6b", "1.7b", "4b", "8b", "14b", "32b")]


@pytest.mark.parametrize("name", ["qwen3-8b-h100", "smollm2-135m-cpu"])
def test_every_number_of_one_is_told_with_its_source(name):
    """Whatever the parsed profile has a source for is there, with it."""
    numbers = json.loads(said("show", name, "--json"))["numbers"]

    for path, source in load(name).sources.items():
        assert (numbers[path]["source"], numbers[path]["how"], numbers[path]["error"]) == (source.source, source.how, source.error)
    assert all(number["how"] in (*HOWS, None) for number in numbers.values())
    assert numbers["engine.step_fixed_s"]["value"] == load(name).engine.step_fixed_s


def test_one_is_shown_as_a_table_too():
    """Its title names the model and the GPUs; a missing limit is a dash."""
    text = said("show", "llama3-70b-h100-tp4")

    assert "meta-llama/Llama-3.1-70B-Instruct on 4 × H100-80GB" in text
    assert "engine.max_queued" in text
    assert "lengths.code" in text


def test_an_unknown_name_is_an_error_with_the_nearest():
    """And no traceback."""
    result = CliRunner().invoke(main, ["profiles", "show", "qwen3-8b-h10"])

    assert result.exit_code == 1
    assert "did you mean qwen3-8b-h100?" in result.output

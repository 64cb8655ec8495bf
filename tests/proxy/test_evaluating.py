"""`bestserve evaluate` as it is typed."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bestserve.proxy.cli import main
from bestserve.proxy.evaluating import BadTuned, named, read_tuned
from bestserve.proxy.fleet_file import read

OPT = Path(__file__).parent.parent.parent / "bench" / "fleets" / "opt.yaml"


def typed(*words: str) -> Result:
    """What the command says."""
    return CliRunner().invoke(main, ["evaluate", "--fleet", str(OPT), "--workload", "poisson:8", "--duration", "20", *words])


@pytest.mark.timeout(600)
def test_policies_are_compared_in_parallel_as_one_by_one(tmp_path):
    """The same figures from one process as from two; every figure of the contract; a page that asks the network for nothing."""
    words = ("--policy", "bid-price", "--policy", "static-all:large@none", "--seeds", "2", "--json")
    page = tmp_path / "out.html"
    alone, together = typed(*words, "--jobs", "1"), typed(*words, "--jobs", "2", "--report", str(page))
    assert alone.exit_code == 0, alone.output
    assert alone.stdout == together.stdout
    said = json.loads(alone.stdout)
    assert [line["policy"] for line in said["results"]] == ["bid-price", "static-all:large@none"]
    for line in said["results"]:
        assert {"reward", "quality", "on_time", "shed", "windows_96", "windows_98", "ttft_p50_s", "ttft_p99_s", "latency_p99_s"} <= set(
            line
        )
        assert line["of_bound"] <= 1.0
    assert said["workloads"][0]["bounds"]["clairvoyant"] <= said["workloads"][0]["bounds"]["fluid"]
    html = page.read_text(encoding="utf-8")
    assert html.count("<svg") == 6
    assert "static-all:large@none" in html
    assert not re.search(r'(?:src|href)\s*=\s*"(?!#)|@import|url\((?!#)|<script', html)


def test_every_way_of_static_serving_has_one_word():
    """Each model under each budget."""
    names = named(["static-all", "random"], read({}, OPT))
    assert len(names) == 3 * 3 + 1
    assert names[-1] == "random"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--policy", "bidprice"), "did you mean bid-price"),
        (("--policy", "random", "--workload", "burst:3"), "did you mean bursty"),
        (("--policy", "random", "--tuned", "nowhere.json"), "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_played(words, said):
    """On standard error, with exit code 1."""
    result = typed(*words)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("text", ["[]", "{", '{"policies": {"bid-price": {"parameters": ["x"]}}}', '{"policies": {"bid-price": 3}}'])
def test_a_file_that_tune_did_not_write_is_refused(tmp_path, text):
    """With its name."""
    path = tmp_path / "tuned.json"
    path.write_text(text)
    with pytest.raises(BadTuned, match=r"tuned.json: is not what"):
        read_tuned(path)

"""`bestserve quality` against a real SGLang with a real, very small model, and through the proxy. Run by `make real`."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

PROMPTS = [
    {"id": "paris", "task": "qa", "prompt": "What is the capital of France?", "check": "contains", "answer": ["Paris"]},
    {"id": "mars", "task": "qa", "prompt": "Which planet is called the Red Planet?", "check": "contains", "answer": ["Mars"]},
    {"id": "product", "task": "math", "prompt": "What is 4817 times 2963?", "check": "number", "answer": 14272771},
    {"id": "story", "task": "write", "prompt": "Tell a story about the sea.", "check": "length", "answer": {"min": 40}},
]


def quality(tmp_path: Path, url: str, model: str) -> dict:
    file = tmp_path / "tiny.jsonl"
    file.write_text("\n".join(map(json.dumps, PROMPTS)))
    flags = ["--url", url, "--model", model, "--prompts", str(file), "--answers", str(tmp_path / f"{model}.jsonl"), "--longest", "64"]
    command = [sys.executable, "-m", "bestserve.proxy", "quality", *flags, "--budgets", "none,8,48:Answer in one word.", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_real_model_is_scored(small, tmp_path):
    """It knows Paris, cannot multiply, is cut by a cap; its answers are counted as the server counts them."""
    told = quality(tmp_path, small.url, "smollm2")["tasks"]

    assert told["qa"]["budgets"]["none"]["quality"]["value"] >= 0.5
    assert told["math"]["budgets"]["none"]["quality"]["value"] == 0
    assert told["write"]["budgets"]["8"]["cut"] == 1
    assert told["write"]["budgets"]["8"]["quality"]["value"] == 0
    rows = [json.loads(line) for line in (tmp_path / "smollm2.jsonl").read_text().splitlines()]
    assert len(rows) == len(PROMPTS) * 3
    (paris,) = (row for row in rows if row["id"] == "paris" and row["budget"] == "none")
    body = {"model": "smollm2", "messages": [{"role": "user", "content": PROMPTS[0]["prompt"]}], "temperature": 0, "max_tokens": 64}
    again = httpx.post(small.url + "/v1/chat/completions", json=body, timeout=90).json()
    assert paris["tokens"] == again["usage"]["completion_tokens"]


def test_the_proxy_leads_to_the_named_backend(proxy, tmp_path):
    """Asked by a backend's name through the proxy, the same model gets the same marks."""
    told = quality(tmp_path, proxy.url, "large")["tasks"]

    assert told["qa"]["budgets"]["none"]["quality"]["value"] >= 0.5
    assert told["write"]["budgets"]["8"]["cut"] == 1

"""SGLang with dummy weights in the shape of a model, and `bestserve profile` before it. Has never run on a GPU.

`--load-format dummy` makes weights up from config.json, which is written here, and so is a tokenizer of as many words as the vocabulary
has numbers: SGLang wants one, and the profile sends token numbers.
"""

import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from shapes import Model

READY_S = 600.0


def profiled(model: Model, out: Path, *, minutes: float, launch: Sequence[str], options: Sequence[str]) -> None:
    """Start SGLang, write the profile, end SGLang. Raises CalledProcessError, or RuntimeError when SGLang does not start."""
    with tempfile.TemporaryDirectory() as folder:
        shaped(model, Path(folder))
        port = _free_port()
        served = ["--served-model-name", model.hub, "--load-format", "dummy", "--load-snapshot-publish-interval", "1"]
        command = [*launch, "--model-path", folder, "--host", "127.0.0.1", "--port", str(port), *served, *options]
        log = out.with_suffix(".log")
        with log.open("wb") as kept, subprocess.Popen(command, stdout=kept, stderr=subprocess.STDOUT) as sglang:
            try:
                url = f"http://127.0.0.1:{port}"
                _until_ready(url, sglang, log)
                base = ["--params-b", str(model.params_b), "--minutes", str(minutes)]
                words = ["--url", url, "--model", model.hub, "--out", str(out), "--plots", str(out.with_suffix(".html")), *base]
                subprocess.run([sys.executable, "-m", "bestserve.proxy", "profile", *words], check=True)
            finally:
                sglang.terminate()


def shaped(model: Model, folder: Path) -> None:
    """config.json and a tokenizer, as transformers reads them."""
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_size": model.hidden,
        "intermediate_size": model.ffn,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "vocab_size": model.vocab,
        "max_position_embeddings": model.context,
        "tie_word_embeddings": model.tied,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "attention_bias": False,
        "torch_dtype": "bfloat16",
        "eos_token_id": model.vocab - 1,
        "bos_token_id": None,
    }
    vocabulary = {f"w{number}": number for number in range(model.vocab)}
    words = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"},
    }
    told = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "w0",
        "eos_token": f"w{model.vocab - 1}",
        "model_max_length": model.context,
    }
    for name, content in (("config.json", config), ("tokenizer.json", words), ("tokenizer_config.json", told)):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


def _until_ready(url: str, sglang: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and sglang.poll() is None:
        try:
            with urllib.request.urlopen(url + "/ready", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1.0)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    raise RuntimeError(f"SGLang did not become ready in {READY_S:.0f} s:\n{tail}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

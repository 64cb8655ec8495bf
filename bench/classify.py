"""What telling a task costs: bytes of a request -> probabilities, hot and cold, by size and language. One thread, no server.

    python bench/classify.py            # prints a table; --json for programs, --plain for the reader that is not compiled

`hot` runs again and again; `cold` reads 8 MB of other memory before each, as a busy process does between two requests. The texts are the
seed prompts of the repository, cut or repeated to size. Times are from the parsed body on: window, features, probabilities, length; of
each request the quietest of the rounds counts, and the percentiles are over requests, so that a neighbour's load is not measured.
"""

import argparse
import gc
import json
import time
import tracemalloc
from pathlib import Path

import numpy as np
import orjson

from bestserve.policy.classify import Classifier
from bestserve.proxy.dialects import openai
from bestserve.proxy.dialects.prompt import prompt_of

ROOT = Path(__file__).parent.parent
WEIGHTS = ROOT / "policy" / "weights" / "task.bin"


def bodies(least: int, most: int, langs: str, size: int = 0) -> list[bytes]:
    """Chat requests of seeds between two sizes; with `size`, each repeated until it has so many characters."""
    seeds = [json.loads(line) for path in sorted((ROOT / "data/seeds").glob("*.jsonl")) for line in path.open(encoding="utf-8")]
    texts = [s["text"] for s in seeds if least <= len(s["text"]) <= most and (langs == "all" or s["lang"] in langs.split(","))]
    texts = [(text + "\n") * (size // len(text) + 1) if size else text for text in texts[:200]]
    return [orjson.dumps({"model": "auto", "messages": [{"role": "user", "content": text}]}) for text in texts]


def timed(classifier: Classifier, requests: list[bytes], *, cold: bool) -> list[float]:
    """Microseconds of each."""
    parsed, other, took = [openai.parse("chat", body) for body in requests], np.zeros(1_000_000), []
    for request in parsed:
        if cold:
            other += 1.0
        begun = time.perf_counter_ns()
        prompt = prompt_of(request)
        assert prompt is not None
        classifier.guess(prompt)
        took.append((time.perf_counter_ns() - begun) / 1000)
    return took


def loading(*, compiled: bool) -> dict[str, float]:
    """Milliseconds to load, the quietest of ten; megabytes that stay."""
    data = WEIGHTS.read_bytes()
    took = []
    for _ in range(10):
        begun = time.perf_counter()
        Classifier.from_bytes(data, compiled=compiled)
        took.append((time.perf_counter() - begun) * 1000)
    tracemalloc.start()
    kept = Classifier.from_bytes(data, compiled=compiled)
    size = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    del kept
    return {"load_ms": min(took), "memory_mb": size, "file_kb": len(data) / 1000}


def main() -> None:
    """Measure and print."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rounds", type=int, default=10)
    asked.add_argument("--json", action="store_true")
    asked.add_argument("--plain", action="store_true")
    args = asked.parse_args()
    classifier = Classifier.from_bytes(WEIGHTS.read_bytes(), compiled=not args.plain)
    if not (args.plain or classifier.compiled):
        asked.error("the package was built without a compiler; say --plain")
    result: dict[str, dict[str, float]] = {"loading": loading(compiled=classifier.compiled)}
    sets = {
        "200-2,000 characters, English": bodies(200, 2000, "en"),
        "200-2,000 characters, all": bodies(200, 2000, "all"),
        "200-2,000 characters, Chinese and Japanese": bodies(150, 2000, "zh,ja"),
        "400,000 characters": bodies(100, 2000, "all", 400_000)[:40],
    }
    gc.disable()
    for name, requests in sets.items():
        for cold in (False, True):
            took = np.min([timed(classifier, requests, cold=cold) for _ in range(args.rounds)], axis=0)
            result[f"{name}, {'cold' if cold else 'hot'}"] = {
                "n": len(requests),
                "p50_us": float(np.percentile(took, 50)),
                "p99_us": float(np.percentile(took, 99)),
            }
    if args.json:
        print(json.dumps(result))
        return
    for name, numbers in result.items():
        print(f"{name:55} " + "  ".join(f"{key} {value:.1f}" for key, value in numbers.items()))


if __name__ == "__main__":
    main()

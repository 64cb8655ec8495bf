"""One decode step and one prefill of a dense Qwen3 in plain torch, on random weights: what the matrices, the norms and the attention of
its shape take. Has never run on a GPU.

A step is captured as one CUDA graph where that works, as engines do; `told()` says whether CUDA is there at all. Attention over the
cache is `scaled_dot_product_attention`, with the query heads that share a key head as if they were queries in a row: they read it once.
"""

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu

from shapes import Model

REPEATS, WARM = 10, 3
ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
DTYPE = torch.bfloat16 if ON_GPU else torch.float32


def told() -> tuple[str, str]:
    """(what times, on what)."""
    return (
        f"torch {torch.__version__}, random weights, {'CUDA graphs' if ON_GPU else 'eager'}",
        torch.cuda.get_device_name() if ON_GPU else "cpu",
    )


def free_bytes() -> float:
    """Of the device's memory, after what an earlier model left is given back."""
    if not ON_GPU:
        return 2e10
    torch.cuda.empty_cache()
    return float(torch.cuda.mem_get_info()[0])


class Decoder:
    """The weights of one shape, at random."""

    def __init__(self, model: Model) -> None:
        self.model = model
        wide, narrow = model.heads * model.head_dim, model.kv_heads * model.head_dim
        self.layers = [
            (
                _random(wide + 2 * narrow, model.hidden),
                _random(model.hidden, wide),
                _random(2 * model.ffn, model.hidden),
                _random(model.hidden, model.ffn),
            )
            for _ in range(model.layers)
        ]
        self.embedding = _random(model.vocab, model.hidden)
        self.out = self.embedding if model.tied else _random(model.vocab, model.hidden)

    def steps_s(self, n: int, context: int) -> list[float]:
        """Seconds of a decode step of n sequences, each with so many tokens in its cache, REPEATS times."""
        m = self.model
        cache = torch.randn(m.layers, 2, n, m.kv_heads, context, m.head_dim, device=DEVICE, dtype=DTYPE)
        tokens = torch.zeros(n, dtype=torch.long, device=DEVICE)
        angle = _angles(m, torch.full((n, 1), context - 1, device=DEVICE))
        return _timed(lambda: self._step(tokens, cache, angle), as_graph=True)

    def prefills_s(self, tokens: int) -> list[float]:
        """Seconds to read one prompt, to its first token, REPEATS times."""
        prompt = torch.zeros(1, tokens, dtype=torch.long, device=DEVICE)
        angle = _angles(self.model, torch.arange(tokens, device=DEVICE)[None])
        return _timed(lambda: self._prefill(prompt, angle), as_graph=False)

    def _step(self, tokens: Tensor, cache: Tensor, angle: tuple[Tensor, Tensor]) -> Tensor:
        x = self.embedding[tokens][:, None]  # (n, 1, hidden)
        for layer, (keys, values) in zip(self.layers, cache, strict=True):

            def attend(q: Tensor, k: Tensor, v: Tensor, keys: Tensor = keys, values: Tensor = values) -> Tensor:
                keys[:, :, -1], values[:, :, -1] = k[:, :, 0], v[:, :, 0]
                return one_query(q, keys, values)

            x = self._through(layer, x, angle, attend)
        return (_normed(x[:, -1]) @ self.out.T).argmax(-1)

    def _prefill(self, prompt: Tensor, angle: tuple[Tensor, Tensor]) -> Tensor:
        x = self.embedding[prompt]  # (1, tokens, hidden)
        for layer in self.layers:
            x = self._through(layer, x, angle, lambda q, k, v: scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True))
        return (_normed(x[:, -1]) @ self.out.T).argmax(-1)

    def _through(
        self, layer: tuple[Tensor, ...], x: Tensor, angle: tuple[Tensor, Tensor], attend: Callable[[Tensor, Tensor, Tensor], Tensor]
    ) -> Tensor:
        """One layer: attention, then the feed-forward part."""
        qkv, o, up, down = layer
        m = self.model
        heads = (_normed(x) @ qkv.T).unflatten(-1, (-1, m.head_dim)).transpose(1, 2)  # (n, heads + 2 kv heads, tokens, head)
        q, k, v = heads.split((m.heads, m.kv_heads, m.kv_heads), dim=1)
        said = attend(_turned(_normed(q), angle), _turned(_normed(k), angle), v)
        x = x + said.transpose(1, 2).flatten(2) @ o.T
        gate, plain = (_normed(x) @ up.T).chunk(2, dim=-1)
        return x + (silu(gate) * plain) @ down.T


def one_query(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of one query a head, (n, heads, 1, head), over keys and values of fewer heads, (n, kv heads, context, head)."""
    shared = q.reshape(*keys.shape[:2], -1, keys.shape[-1])  # (n, kv heads, heads that share one, head)
    return scaled_dot_product_attention(shared, keys, values).reshape(q.shape)


def _random(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns, device=DEVICE, dtype=DTYPE) / columns**0.5


def _normed(x: Tensor) -> Tensor:
    return rms_norm(x, x.shape[-1:])


def _angles(model: Model, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position's rotation, (n, 1, tokens, head / 2)."""
    turns = 1e6 ** (-torch.arange(0, model.head_dim, 2, device=DEVICE) / model.head_dim)
    angle = positions[:, None, :, None] * turns
    return angle.cos().to(DTYPE), angle.sin().to(DTYPE)


def _turned(x: Tensor, angle: tuple[Tensor, Tensor]) -> Tensor:
    (one, other), (cos, sin) = x.chunk(2, dim=-1), angle
    return torch.cat((one * cos - other * sin, other * cos + one * sin), dim=-1)


@torch.inference_mode()
def _timed(work: Callable[[], Tensor], *, as_graph: bool) -> list[float]:
    for _ in range(WARM):
        work()
    if not ON_GPU:
        return list(_by_clock(work))
    torch.cuda.synchronize()
    replay: Callable[[], object] = work
    if as_graph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        replay = graph.replay
        replay()
    return list(_by_events(replay))


def _by_events(work: Callable[[], object]) -> Iterator[float]:
    for _ in range(REPEATS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        end.synchronize()
        yield begin.elapsed_time(end) / 1e3


def _by_clock(work: Callable[[], object]) -> Iterator[float]:
    for _ in range(REPEATS):
        begin = time.perf_counter()
        work()
        yield time.perf_counter() - begin

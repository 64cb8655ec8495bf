"""How long a GPU needs, from bytes, arithmetic and a few fitted efficiencies.

Facts · Every matrix of a model is read once a step, its keys and values once a step for each token of context; each token costs two
operations a parameter. A GPU reaches some share of its published peaks. Between the two limits its matrices take neither their sum
nor their maximum but something like (memory^q + arithmetic^q)^(1/q).

    matrices(P, T) = ((2 P / (weights B))^q + (2 P T / (arithmetic F))^q)^(1/q)
                     of P parameters over T tokens; B and F are the peaks of all GPUs together
    step           = matrices + layers x gap + sequences x per_sequence + context x its bytes / (cache B) + sync
    prefill        = fixed + matrices + layers x gap + T x layers x (hidden + ffn) x passes bytes / (weights B)
                     + attention's arithmetic / (attention F) + sync
    sync           = layers x (meeting + bytes of two sums over T tokens / (link x NVLink)), with more than one GPU

An engine that launches each kernel from the host (only Splitwise's, in 2023) takes no less than layers x host: step and prefill are
joined with that as with a third limit.

Plan · All rows of `measured` at once, least squares on logarithms, so that a factor of two is as bad either way; each group of rows
(source, kind, model, GPU) counts once however many rows it has, and a row that is far off counts linearly, not squared. Every constant
has a prior of its own spread, so that a GPU that few have measured is near the others: `SHARES` are those of a GPU, relative to all.

What is not handled · mixtures of experts, quantised weights, speculative decoding, batches of prefill and decode mixed.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from measured import Row
from shapes import GPUS, MODELS, Gpu, Model

Array = NDArray[np.float64]
Constants = Mapping[str, float]

ENGINES = ("none", "sglang", "vllm", "vllm-0.6", "splitwise")
SHARES = ("weights", "arithmetic")
CHIPS = tuple(sorted({gpu.chip for gpu in GPUS.values()}))

PRIORS: dict[str, tuple[float, float]] = {  # constant -> (median, sigma of its logarithm)
    "weights": (0.8, 0.3),
    "arithmetic": (0.6, 0.3),
    **{f"{share} {gpu}": (1.0, 0.15) for share in SHARES for gpu in CHIPS},
    "cache": (1.0, 0.3),  # of the share of bandwidth that weights get
    "attention": (0.5, 0.7),  # of the share of arithmetic that matrices get
    "q": (3.0, 0.7),
    "gap": (60e-6, 0.5),  # seconds a layer
    **{f"gap {engine}": (1.0, 0.4) for engine in ENGINES},
    "host splitwise a100": (300e-6, 1.0),  # seconds a layer; two kinds of machine
    "host splitwise h100": (300e-6, 1.0),
    "per_sequence": (10e-6, 1.5),  # seconds
    "meeting": (20e-6, 1.0),  # seconds a layer
    "link": (0.3, 0.7),  # share of NVLink
    "passes": (10.0, 1.0),  # how often a token's activations are read or written, a layer
    "prefill_fixed": (3e-3, 1.5),  # seconds
}
SCALE = 0.08  # the error that one group of rows is thought to have
FAR = 1.5  # in SCALEs; beyond it a residual counts linearly


class Roofline:
    """The formula with its constants, for single times and for arrays of them alike."""

    def __init__(self, constants: Constants) -> None:
        self.of = constants

    def matrices(self, model: Model, gpu: Gpu, n_gpus: int, tokens: float, params: int) -> float:
        memory = 2 * params / self._bandwidth(gpu, n_gpus)
        arithmetic = 2 * params * tokens / self._flops(gpu, n_gpus)
        return self._joined(memory, arithmetic)

    def step(self, model: Model, gpu: Gpu, n_gpus: int, engine: str, n: float, context: float) -> float:
        """Seconds of a decode step of `n` sequences over `context` tokens altogether."""
        device = (
            self.matrices(model, gpu, n_gpus, n, model.read)
            + self._gaps(model, engine)
            + n * self.of["per_sequence"]
            + context * model.kv_bytes / (self.of["cache"] * self._bandwidth(gpu, n_gpus))
            + self._sync(model, gpu, n_gpus, n)
        )
        return self._hosted(device, model, gpu, engine)

    def prefill(self, model: Model, gpu: Gpu, n_gpus: int, engine: str, prompts: float, each: float) -> float:
        """Seconds of a batch of `prompts` prompts of `each` tokens."""
        tokens = prompts * each
        passes = self.of["passes"] * 2 * model.layers * (model.hidden + model.ffn)  # bytes a token
        pairs = 2 * model.layers * model.heads * model.head_dim * each * tokens  # operations, each token with those before it
        device = (
            self.matrices(model, gpu, n_gpus, tokens, model.in_layers)
            + self._gaps(model, engine)
            + tokens * passes / self._bandwidth(gpu, n_gpus)
            + pairs / (self.of["attention"] * self._flops(gpu, n_gpus))
            + self._sync(model, gpu, n_gpus, tokens)
        )
        return self.of["prefill_fixed"] + self._hosted(device, model, gpu, engine)

    def seconds(self, row: Row) -> float:
        """What the formula says of one Row."""
        model, gpu = MODELS[row.model], GPUS[row.gpu]
        where = (model, gpu, row.n_gpus)
        if row.kind == "operators":
            return self.matrices(*where, row.n, model.in_layers) + self._gaps(model, "none")
        if row.kind == "step":
            return self.step(*where, row.engine, row.n, row.n * row.context)
        prefill = self.prefill(*where, row.engine, row.n, row.context)
        if row.kind == "prefill":
            return prefill
        return prefill + row.answer * self.step(*where, row.engine, 1, row.context + row.answer / 2)

    def _bandwidth(self, gpu: Gpu, n_gpus: int) -> float:
        return self.of["weights"] * self.of[f"weights {gpu.chip}"] * gpu.bytes_per_s * n_gpus

    def _flops(self, gpu: Gpu, n_gpus: int) -> float:
        return self.of["arithmetic"] * self.of[f"arithmetic {gpu.chip}"] * gpu.flops * n_gpus

    def _gaps(self, model: Model, engine: str) -> float:
        return model.layers * self.of["gap"] * self.of[f"gap {engine}"]

    def _joined(self, *limits: float) -> float:
        q = self.of["q"]
        return float(sum(limit**q for limit in limits) ** (1 / q))

    def _hosted(self, device: float, model: Model, gpu: Gpu, engine: str) -> float:
        host = self.of.get(f"host {engine} {gpu.chip}")
        return device if host is None else self._joined(device, model.layers * host)

    def _sync(self, model: Model, gpu: Gpu, n_gpus: int, tokens: float) -> float:
        if n_gpus == 1:  # then there need be no link
            return 0.0
        moved = 2 * 2 * model.hidden * tokens * 2 * (n_gpus - 1) / n_gpus  # bytes a layer and GPU: two sums, around a ring
        return model.layers * (self.of["meeting"] + moved / (self.of["link"] * gpu.link_bytes_per_s))


def fit(rows: Sequence[Row]) -> dict[str, float]:
    """The constants that fit the rows best, given PRIORS."""
    names = tuple(PRIORS)
    centre = np.log([median for median, _ in PRIORS.values()])
    spread = np.array([sigma for _, sigma in PRIORS.values()])
    seen = np.log([row.seconds for row in rows])
    weight = _weights(rows) / SCALE

    def residuals(logs: Array) -> Array:
        roofline = Roofline(dict(zip(names, np.exp(logs).tolist(), strict=True)))
        off = (np.log([roofline.seconds(row) for row in rows]) - seen) * weight
        return np.concatenate([_bounded(off), (logs - centre) / spread])

    found = least_squares(residuals, centre, x_scale="jac").x
    return {name: float(f"{math.exp(log):.4g}") for name, log in zip(names, found, strict=True)}


def _weights(rows: Sequence[Row]) -> Array:
    def group(row: Row) -> tuple[str, str, str, str]:
        return row.source, row.kind, row.model, row.gpu

    sizes = Counter(map(group, rows))
    return np.array([sizes[group(row)] ** -0.5 for row in rows])


def _bounded(off: Array) -> Array:
    """Huber's residuals, as something to be squared."""
    far = np.abs(off)
    bounded: Array = np.sign(off) * np.where(far > FAR, np.sqrt(np.maximum(2 * FAR * far - FAR**2, 0)), far)
    return bounded

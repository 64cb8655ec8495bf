"""The published shapes of models and the published peaks of GPUs. Nothing here was measured."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Model:
    """A dense decoder, as its config.json on the model hub says."""

    family: str  # one of the families that ship, or "" for a model that only others measured
    size: str  # as in its name, e.g. "8b"
    hub: str  # owner/name
    params_b: float  # as its model card says
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    tied: bool  # embedding and output matrix are one
    context: int = 32768  # positions it was made for
    matrices: int = 3  # of the feed-forward part: gate, up, down; two without a gate

    @property
    def in_layers(self) -> int:
        """Parameters of the matrices in the layers."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return self.layers * (attention + self.matrices * self.hidden * self.ffn)

    @property
    def read(self) -> int:
        """Parameters read in each decode step: the layers and the output matrix. Of the embedding only rows are read."""
        return self.in_layers + self.vocab * self.hidden

    @property
    def weight_bytes(self) -> int:
        """Bytes that the weights fill, at two a parameter."""
        return 2 * (self.in_layers + self.vocab * self.hidden * (1 if self.tied else 2))

    @property
    def kv_bytes(self) -> int:
        """Bytes of one token of context: a key and a value per layer and key-value head, at two bytes a number."""
        return self.layers * 2 * self.kv_heads * self.head_dim * 2


def _qwen3(size: str, params_b: float, layers: int, hidden: int, heads: int, ffn: int, tied: bool) -> Model:
    return Model("qwen3", size.lower(), f"Qwen/Qwen3-{size}", params_b, layers, hidden, heads, 8, 128, ffn, 151936, tied, 40960)


def _qwen25(size: str, params_b: float, layers: int, hidden: int, heads: int, kv_heads: int, ffn: int, tied: bool) -> Model:
    vocab, head_dim = (151936, hidden // heads) if tied else (152064, 128)
    hub = f"Qwen/Qwen2.5-{size}-Instruct"
    return Model("qwen2.5", size.lower(), hub, params_b, layers, hidden, heads, kv_heads, head_dim, ffn, vocab, tied)


def _llama3(hub: str, params_b: float, layers: int, hidden: int, heads: int, ffn: int, tied: bool) -> Model:
    size = hub.split("-")[2].lower()
    return Model("llama3", size, f"meta-llama/{hub}", params_b, layers, hidden, heads, 8, hidden // heads, ffn, 128256, tied, 131072)


def _opt(size: str, params_b: float, layers: int, hidden: int, heads: int) -> Model:
    hub, head_dim = f"facebook/opt-{size}", hidden // heads
    return Model("opt", size, hub, params_b, layers, hidden, heads, heads, head_dim, 4 * hidden, 50272, True, 2048, 2)


LADDERS = (
    _qwen3("0.6B", 0.6, 28, 1024, 16, 3072, True),
    _qwen3("1.7B", 1.7, 28, 2048, 16, 6144, True),
    _qwen3("4B", 4.0, 36, 2560, 32, 9728, True),
    _qwen3("8B", 8.2, 36, 4096, 32, 12288, False),
    _qwen3("14B", 14.8, 40, 5120, 40, 17408, False),
    _qwen3("32B", 32.8, 64, 5120, 64, 25600, False),
    _qwen25("0.5B", 0.49, 24, 896, 14, 2, 4864, True),
    _qwen25("1.5B", 1.54, 28, 1536, 12, 2, 8960, True),
    _qwen25("3B", 3.09, 36, 2048, 16, 2, 11008, True),
    _qwen25("7B", 7.61, 28, 3584, 28, 4, 18944, False),
    _qwen25("14B", 14.7, 48, 5120, 40, 8, 13824, False),
    _qwen25("32B", 32.5, 64, 5120, 40, 8, 27648, False),
    _qwen25("72B", 72.7, 80, 8192, 64, 8, 29568, False),
    _llama3("Llama-3.2-1B-Instruct", 1.23, 16, 2048, 32, 8192, True),
    _llama3("Llama-3.2-3B-Instruct", 3.21, 28, 3072, 24, 8192, True),
    _llama3("Llama-3.1-8B-Instruct", 8.03, 32, 4096, 32, 14336, False),
    _llama3("Llama-3.1-70B-Instruct", 70.6, 80, 8192, 64, 28672, False),
    _opt("125m", 0.125, 12, 768, 12),
    _opt("1.3b", 1.3, 24, 2048, 32),
    _opt("6.7b", 6.7, 32, 4096, 32),
)

# models that others measured and that do not ship
OTHERS = (
    Model("", "2.7b", "microsoft/phi-2", 2.7, 32, 2560, 32, 32, 80, 10240, 51200, False, matrices=2),
    Model("", "7b", "meta-llama/Llama-2-7b", 6.7, 32, 4096, 32, 32, 128, 11008, 32000, False),
    Model("", "20b", "internlm/internlm-20b", 20, 60, 5120, 40, 40, 128, 13824, 103168, False),
    Model("", "34b", "codellama/CodeLlama-34b", 34, 48, 8192, 64, 8, 128, 22016, 32000, False),
    Model("", "70b", "meta-llama/Llama-2-70b", 69, 80, 8192, 64, 8, 128, 28672, 32000, False),
    Model("", "72b", "Qwen/Qwen-72B", 72, 80, 8192, 64, 64, 128, 24576, 151936, False),
    Model("", "176b", "bigscience/bloom", 176, 70, 14336, 112, 112, 128, 57344, 250880, True, matrices=2),
)

MODELS = {model.hub: model for model in (*LADDERS, *OTHERS)}


@dataclass(frozen=True, slots=True)
class Gpu:
    """Published peaks of one GPU, and what SGLang 0.5.23 sets by its memory (sglang/srt/arg_groups/memory_hook.py)."""

    name: str  # in the name of a profile
    label: str  # in a profile's `gpu`
    bytes_per_s: float
    flops: float  # dense BF16
    link_bytes_per_s: float  # NVLink, both directions together; 0 where there is none
    memory_mib: int  # as nvidia-smi reports
    usd_per_hour: float  # a round figure for one rented
    chip: str  # whose shares of the peaks it reaches
    max_running: int = 256  # most sequences of a captured CUDA graph
    prefill_batch_tokens: int = 8192


A100 = Gpu("a100", "A100-80GB", 2.039e12, 312e12, 600e9, 81920, 1.8, "a100")
H100 = Gpu("h100", "H100-80GB", 3.35e12, 989e12, 900e9, 81559, 2.5, "h100")
H100_PCIE = Gpu("h100-pcie", "H100-80GB-PCIe", 2.04e12, 756e12, 600e9, 81559, 2.0, "h100")
H200 = Gpu("h200", "H200-141GB", 4.8e12, 989e12, 900e9, 143771, 3.5, "h100")
H20 = Gpu("h20", "H20-96GB", 4.0e12, 148e12, 900e9, 97871, 2.0, "h20")
L4 = Gpu("l4", "L4-24GB", 0.3e12, 121e12, 0, 23034, 0.8, "l4", 48, 4096)

GPUS = {gpu.name: gpu for gpu in (A100, H100, H200, H20, L4)}

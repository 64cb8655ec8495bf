"""Which kind of server speaks which dialect."""

from .dialects.compatible import COMPATIBLE
from .dialects.dialect import Dialect
from .dialects.sglang import SGLANG
from .dialects.vllm import VLLM

ENGINES: dict[str, Dialect] = {dialect.name: dialect for dialect in (SGLANG, VLLM, COMPATIBLE)}
"""By the name that `engine` has in the config."""

"""Turn a GGUF file into the folder of weights and tokenizer that SGLang reads: `unpack.py FILE.gguf OUT`.

Runs in `.real/venv`. The weights were quantized for the GGUF; here they become bfloat16, and no better than they were.
"""

import os
import sys
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1"  # noqa: TID251  read while transformers is imported
sys.path.insert(0, str(Path(__file__).resolve().parent / "shim"))

import vision_ops

vision_ops.declare()

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # noqa: E402


def main() -> None:
    gguf, out = Path(sys.argv[1]), Path(sys.argv[2])
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.save_pretrained(out)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(out)


if __name__ == "__main__":
    main()

"""An empty chair where SGLang's compiled kernels would sit.

On its CPU path SGLang imports a few `*_cpu` functions by name when it starts; they belong to speculative decoding, which
no test here switches on. Whatever is asked for under such a name is handed out, and says what it is when called.
"""

from collections.abc import Callable
from typing import NoReturn


def __getattr__(name: str) -> Callable[..., NoReturn]:
    if not name.endswith("_cpu"):
        raise AttributeError(f"sgl_kernel.{name}: the compiled kernels are not installed")

    def not_here(*_args: object, **_kwargs: object) -> NoReturn:
        raise NotImplementedError(f"sgl_kernel.{name}: the compiled kernels are not installed")

    return not_here

"""Marks for tests that need the real LiteLLM: they are skipped where it is not installed, and its own warnings are not ours."""

from importlib.util import find_spec

import pytest

WITH_LITELLM = [
    pytest.mark.skipif(find_spec("litellm") is None, reason="needs `pip install 'bestserve[providers]'`"),  # importing it here would fetch
    pytest.mark.filterwarnings("ignore:Item 'summary' on TypedDict:UserWarning"),
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
]

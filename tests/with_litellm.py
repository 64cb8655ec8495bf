"""Marks for tests with the real LiteLLM, which the extra `test` brings: its own warnings are not ours."""

import pytest

WITH_LITELLM = [
    pytest.mark.filterwarnings("ignore:Item 'summary' on TypedDict:UserWarning"),
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
]

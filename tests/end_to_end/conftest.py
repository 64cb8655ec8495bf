"""Every test here runs in one asyncio loop."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"

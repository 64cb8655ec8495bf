"""The page about the config is in step with the code."""

from pathlib import Path

from bestserve.proxy.config import BudgetConfig, Config, SLOConfig
from bestserve.proxy.config_docs import markdown

PAGE = Path(__file__).parents[2] / "docs" / "config.md"


def test_the_page_is_what_the_code_prints():
    """Otherwise print it again: `bestserve.proxy.config_docs.markdown()`."""
    assert PAGE.read_text(encoding="utf-8") == markdown()


def test_every_key_has_its_line():
    """Of the top, and of sections inside lists and mappings."""
    page = markdown()

    for section in (Config, BudgetConfig, SLOConfig):
        for name in section.model_fields:
            assert f"| `{name}` | " in page
    assert "## `slo.tiers.TIER`" in page
    assert "## `backends[]`" in page

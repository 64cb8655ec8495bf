"""The study's arithmetic."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import study


def test_a_ratio_has_the_interval_of_its_seeds():
    """Of means; half its width by Student's t over the seeds' own ratios."""
    ratio, half = study.against(np.array([1.0, 1.1, 1.2]), np.array([1.0, 1.0, 1.0]))
    assert ratio == pytest.approx(1.1)
    assert half == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-4)

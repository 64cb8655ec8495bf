"""A learned policy as bytes: it comes back as it was, or is refused with the reason."""

import contextlib
import io
import zipfile
from dataclasses import replace

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bestserve.policy.calibration import Corrected
from bestserve.policy.checkpoint import PARAMETERS, BadCheckpoint, Checkpoint, from_bytes, to_bytes
from bestserve.policy.inputs import N_CONTEXT, N_ROW
from bestserve.policy.network import SHAPES, Network


def checkpoint(seed: int = 0) -> Checkpoint:
    """Weights that are not zero anywhere."""
    dice = np.random.default_rng(seed)
    network = Network(**{name: (dice.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32) for name, shape in SHAPES.items()})
    n = N_ROW + N_CONTEXT
    return Checkpoint(network, (0.05, 0.7, 0.0, 1.0, 0.5, 5.0), -np.ones(n), np.ones(n), {"seed": seed})


def changed(data: bytes, name: str, part: bytes) -> bytes:
    """The same archive with another part in place of one."""
    into = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(into, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, part if info.filename == name else old.read(info))
    return into.getvalue()


def npy(array: np.ndarray, **how: bool) -> bytes:
    into = io.BytesIO()
    np.save(into, array, **how)
    return into.getvalue()


def test_it_comes_back_as_it_was():
    """Weights in float32, everything else as it stood; the same one gives the same bytes and name."""
    made = checkpoint()
    read = from_bytes(to_bytes(made))
    for one, other in zip(made.network, read.network, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (read.parameters, read.about) == ((0.05, 0.7, 0.0, 1.0, 0.5, 5.0), {"seed": 0})
    assert to_bytes(made) == to_bytes(made)
    assert read.name == from_bytes(to_bytes(made)).name != from_bytes(to_bytes(checkpoint(1))).name
    assert len(to_bytes(made)) < 50_000


def test_what_a_log_taught_travels_with_it():
    """Corrections of backends come back; a checkpoint without any has none, and one with what cannot be believed is refused."""
    learnt = {"b": Corrected("p", {"step_fixed_s": 0.02}, {"code": 0.3}, longer={"math": 0.4})}
    assert from_bytes(to_bytes(replace(checkpoint(), calibration=learnt))).calibration == learnt
    plain = to_bytes(checkpoint())
    with zipfile.ZipFile(io.BytesIO(plain)) as archive:
        manifest = orjson.loads(archive.read("manifest.json"))
    del manifest["calibration"]
    assert from_bytes(changed(plain, "manifest.json", orjson.dumps(manifest))).calibration == {}
    manifest["calibration"] = {"b": {"profile": "p", "quality": {"code": 2}}}
    with pytest.raises(BadCheckpoint, match="2 is not between"):
        from_bytes(changed(plain, "manifest.json", orjson.dumps(manifest)))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("encoder", 1, "it is of encoder 1, and this version has encoder"),
        ("inputs", 99, "it is of inputs 99"),
        ("format", 1, "it is of format 1"),
        ("parameters", dict.fromkeys(PARAMETERS, 1.0) | {"price_factor": -1.0}, "price_factor is -1.0, which is no number from 0 on"),
        ("parameters", {"shed_score": 0.1}, "price_factor"),
        ("about", [], "about is not a mapping"),
    ],
)
def test_a_manifest_of_something_else_is_refused(key, value, said):
    """With the name of what does not fit."""
    data = to_bytes(checkpoint())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        manifest = orjson.loads(archive.read("manifest.json"))
    with pytest.raises(BadCheckpoint, match=said):
        from_bytes(changed(data, "manifest.json", orjson.dumps({**manifest, key: value})))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.full(SHAPES["w2"], np.nan, dtype=np.float32), "w2 holds 2304 numbers that are not finite"),
        (np.zeros((3, 3), dtype=np.float32), r"w2 has the shape \(3, 3\), not \(48, 48\)"),
    ],
)
def test_weights_that_are_none_are_refused(array, said):
    """Before anything is decided by them."""
    with pytest.raises(BadCheckpoint, match=said):
        from_bytes(changed(to_bytes(checkpoint()), "w2.npy", npy(array)))


def test_nothing_is_unpickled():
    """An array of objects could run code when it is read."""
    bad = npy(np.array([[print]], dtype=object), allow_pickle=True)
    with pytest.raises(BadCheckpoint, match="allow_pickle=False"):
        from_bytes(changed(to_bytes(checkpoint()), "w1.npy", bad))


@given(st.binary(max_size=300), st.integers(0, 20_000))
def test_whatever_the_bytes_it_is_read_or_refused(junk, at):
    """No other exception; a file cut or damaged anywhere included."""
    data = to_bytes(checkpoint())
    for bad in (junk, data[:at], data[:at] + junk + data[at + len(junk) :]):
        if bad != data:
            with contextlib.suppress(BadCheckpoint):
                assert np.isfinite(from_bytes(bad).network.w1).all()

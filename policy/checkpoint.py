"""A learned policy as bytes: weights and a manifest, no pickle. Read once, checked whole, never changed.

A checkpoint is of one encoder and one set of inputs: weights mean nothing under another. It says what it was trained on, and in which
range its inputs lay, so that a live process can tell when it sees what training never saw. One that was made from a log also brings what
the log said of each backend (`calibration`).
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import orjson

from .calibration import BadCalibration, Calibration, parsed, plain
from .encode import ENCODER
from .facts import Floats
from .inputs import CONTEXT, INPUTS, N_CONTEXT, N_ROW, ROW
from .network import SHAPES, Network

FORMAT = 2
PARAMETERS = ("shed_score", "price_factor", "crowd_price", "crowd_from", "harm_price", "sharpness")
"""Of `network.prior_into`; and what all logits are multiplied by."""


class BadCheckpoint(ValueError):
    """Bytes that are no checkpoint, or one of another encoder; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Everything that a learned policy is. `low` and `high` are (N_ROW + N_CONTEXT,): where its inputs lay in training."""

    network: Network
    parameters: tuple[float, ...]  # in the order of PARAMETERS
    low: Floats
    high: Floats
    about: Mapping[str, Any]  # command, seed, figures
    id: str = ""  # 8 hex digits of the hash of its bytes
    calibration: Calibration = field(default_factory=dict)  # what is believed of backends where it decides

    @property
    def name(self) -> str:
        """As it stands in headers, metrics and records."""
        return f"actor-{self.id}"


def to_bytes(checkpoint: Checkpoint) -> bytes:
    """A zip of .npy arrays in float32 and a manifest; the same checkpoint gives the same bytes."""
    manifest = {
        "format": FORMAT,
        "encoder": ENCODER,
        "inputs": INPUTS,
        "parameters": dict(zip(PARAMETERS, checkpoint.parameters, strict=True)),
        "rows": ROW,
        "context": CONTEXT,
        "about": checkpoint.about,
        "calibration": plain(checkpoint.calibration),
    }
    arrays = {**checkpoint.network._asdict(), "low": checkpoint.low, "high": checkpoint.high}
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as archive:
        _write(archive, "manifest.json", orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
        for name, array in arrays.items():
            part = io.BytesIO()
            np.save(part, np.asarray(array, dtype=np.float32), allow_pickle=False)
            _write(archive, f"{name}.npy", part.getvalue())
    return into.getvalue()


def from_bytes(data: bytes) -> Checkpoint:
    """Read a checkpoint. Raises BadCheckpoint."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            manifest = _manifest(orjson.loads(_read(archive, "manifest.json")))
            arrays = {name: _array(archive, name, shape) for name, shape in {**SHAPES, "low": _RANGE, "high": _RANGE}.items()}
    except BadCheckpoint:
        raise
    except _DAMAGE as error:
        raise BadCheckpoint(f"these bytes are no checkpoint: {type(error).__name__}: {error}") from error
    low, high = arrays.pop("low"), arrays.pop("high")
    name, parameters = blake2b(data, digest_size=4).hexdigest(), tuple(float(manifest["parameters"][name]) for name in PARAMETERS)
    return Checkpoint(Network(**arrays), parameters, low, high, manifest["about"], name, manifest["calibration"])


_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, LookupError, ValueError, TypeError, EOFError, OSError, RuntimeError)
"""What reading a damaged archive may raise."""

_RANGE = (N_ROW + N_CONTEXT,)
_MOST_BYTES = 16_000_000


def _write(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)  # ZipInfo's own date: 1980


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > _MOST_BYTES:
        raise BadCheckpoint(f"{name} is larger than a policy's is")
    return archive.read(name)


def _manifest(raw: Any) -> Mapping[str, Any]:
    """Checked against this version of the code."""
    for key, ours in (("format", FORMAT), ("encoder", ENCODER), ("inputs", INPUTS)):
        if raw[key] != ours:
            raise BadCheckpoint(f"it is of {key} {raw[key]!r}, and this version has {key} {ours}: train it anew")
    wrong = [name for name in PARAMETERS if not 0 <= float(raw["parameters"][name]) < np.inf]
    if wrong:
        raise BadCheckpoint(f"{wrong[0]} is {raw['parameters'][wrong[0]]!r}, which is no number from 0 on")
    if not isinstance(raw["about"], dict):
        raise BadCheckpoint("about is not a mapping")
    try:
        return {**raw, "calibration": parsed(raw.get("calibration", {}))}
    except BadCalibration as error:
        raise BadCheckpoint(str(error)) from error


def _array(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...]) -> Floats:
    array = np.load(io.BytesIO(_read(archive, f"{name}.npy")), allow_pickle=False)
    if array.shape != shape:
        raise BadCheckpoint(f"{name} has the shape {array.shape}, not {shape}")
    values: Floats = array.astype(np.float64)
    if not np.isfinite(values).all():
        raise BadCheckpoint(f"{name} holds {int((~np.isfinite(values)).sum())} numbers that are not finite")
    return values

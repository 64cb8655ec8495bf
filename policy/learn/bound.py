"""NamedTuples of arrays, handed to compiled functions as one pointer.

numba passes a NamedTuple by value: every array in it as seven numbers, through every call. A simulated world has a hundred arrays, and
compiling took minutes. A `Bound` is a table of addresses instead: compiled code that reads `world.kept.open.requests[b]` follows it.
Nothing is counted or owned there, so whoever holds the Bound keeps the arrays alive; and since only addresses are kept, the arrays
may be written to from outside, but not replaced.

Layout of the table, in words of 8 bytes, in the order of the fields: an array is its address and its shape, a number is itself, a
NamedTuple is its fields.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.typing.templates import AttributeTemplate
from numba.extending import NativeValue, infer_getattr, lower_getattr_generic, register_model, typeof_impl, unbox
from numba.np import numpy_support
from numba.np.arrayobj import make_array, populate_array

WORD = 8


class BoundType(types.Type):
    """The fields of a NamedTuple class, each with its type and its place in the table."""

    def __init__(self, name: str, fields: tuple[tuple[str, types.Type, int], ...]) -> None:
        self.fields = fields
        shape = blake2b(repr([(field, str(kind), at) for field, kind, at in fields]).encode(), digest_size=6).hexdigest()
        super().__init__(name=f"Bound({name}, {shape})")

    @property
    def key(self) -> Any:
        """What makes two of them the same."""
        return self.name

    def field(self, name: str) -> tuple[types.Type, int]:
        """Type and place of a field. Raises KeyError."""
        return {field: (kind, at) for field, kind, at in self.fields}[name]


@dataclass(frozen=True, slots=True)
class Bound:
    """A NamedTuple with the table of its addresses."""

    value: Any
    table: Any  # int64
    kind: BoundType


def bind(value: Any) -> Any:
    """A NamedTuple of arrays, numbers and NamedTuples, bound."""
    kind, words = _laid_out(value)
    return Bound(value, np.array(words, dtype=np.int64), kind)


def _laid_out(value: Any) -> tuple[BoundType, list[int]]:
    fields, words = list[tuple[str, Any, int]](), list[int]()
    for name, item in zip(value._fields, value, strict=True):
        at = len(words)
        if isinstance(item, np.ndarray):
            assert item.flags.c_contiguous, name
            fields.append((name, types.Array(numpy_support.from_dtype(item.dtype), item.ndim, "C"), at))
            words += [item.ctypes.data, *item.shape]
        elif isinstance(item, tuple):
            inner, more = _laid_out(item)
            fields.append((name, inner, at))
            words += more
        elif isinstance(item, float):
            fields.append((name, types.float64, at))
            words.append(int(np.float64(item).view(np.int64)))
        else:
            fields.append((name, types.int64, at))
            words.append(int(item))
    return BoundType(type(value).__name__, tuple(fields)), words


@register_model(BoundType)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: BoundType) -> None:
        super().__init__(manager, kind, ir.IntType(64).as_pointer())


@typeof_impl.register(Bound)
def _typeof(value: Bound, _context: Any) -> BoundType:
    return value.kind


@unbox(BoundType)
def _unbox(_kind: BoundType, value: Any, c: Any) -> Any:
    table = c.pyapi.object_getattr_string(value, "table")
    native = c.unbox(types.Array(types.int64, 1, "C"), table)
    array = make_array(types.Array(types.int64, 1, "C"))(c.context, c.builder, native.value)
    c.pyapi.decref(table)
    return NativeValue(array.data, is_error=native.is_error)


@infer_getattr
class _Fields(AttributeTemplate):
    key = BoundType

    def generic_resolve(self, kind: BoundType, name: str) -> types.Type | None:
        """The type of a field."""
        return next((field_type for field, field_type, _ in kind.fields if field == name), None)


@lower_getattr_generic(BoundType)
def _get(context: Any, builder: Any, kind: BoundType, value: Any, name: str) -> Any:
    field, at = kind.field(name)
    place = builder.gep(value, [ir.Constant(ir.IntType(64), at)])
    if isinstance(field, BoundType):
        return place
    if isinstance(field, types.Array):
        return _array(context, builder, field, place)
    return builder.load(builder.bitcast(place, context.get_value_type(field).as_pointer()))


def _array(context: Any, builder: Any, kind: types.Array, place: Any) -> Any:
    """An array over memory that it does not own."""
    word = ir.IntType(64)
    made = make_array(kind)(context, builder)
    size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    shape = [builder.load(builder.gep(place, [ir.Constant(word, 1 + i)])) for i in range(kind.ndim)]
    strides, step = list[Any](), ir.Constant(word, size)
    for extent in reversed(shape):
        strides.insert(0, step)
        step = builder.mul(step, extent)
    data = builder.inttoptr(builder.load(place), context.get_data_type(kind.dtype).as_pointer())
    populate_array(
        made,
        data=data,
        shape=cgutils.pack_array(builder, shape),
        strides=cgutils.pack_array(builder, strides),
        itemsize=ir.Constant(word, size),
        meminfo=None,
    )
    return made._getvalue()  # noqa: SLF001

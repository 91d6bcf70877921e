"""Whether a value that came from a file is of the type that its place takes."""

import importlib
import inspect
import types
import typing
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal, Union

SCALARS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", type(None): "nothing"}


@cache
def parameters_of(target: str) -> Mapping[str, Any] | None:
    """{argument: its type} of a class or function of this package; None where it is no longer there."""
    module, _, name = target.rpartition(".")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("mnv2_tasks"):
            return None
        raise  # an optional package
    if not hasattr(found, name):
        return None
    part = getattr(found, name)
    hints = typing.get_type_hints(part.__init__ if inspect.isclass(part) else part)
    return {name: hints.get(name, Any) for name in inspect.signature(part).parameters}


def fits(value: Any, expected: Any) -> bool:
    """Whether plain data, as JSON has it, is what a type hint says; a list stands for a tuple too."""
    origin, inner = typing.get_origin(expected), typing.get_args(expected)
    if expected is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, choice) for choice in inner)
    if origin is Literal:
        return value in inner
    if expected is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if expected is int:
        return isinstance(value, int) and not isinstance(value, bool)
    holder = origin or expected
    if not isinstance(holder, type):  # a NewType, a callable
        return False
    if issubclass(holder, Mapping):
        return isinstance(value, dict) and (not inner or all(fits(v, inner[1]) for v in value.values()))
    if issubclass(holder, Iterable) and holder is not str:
        if not isinstance(value, list) or not inner:
            return isinstance(value, list)
        if issubclass(holder, tuple) and inner[-1] is not Ellipsis:
            return len(value) == len(inner) and all(map(fits, value, inner))
        return all(fits(item, inner[0]) for item in value)
    return isinstance(value, holder)


def same_kind(value: Any, example: Any) -> bool:
    """Whether a value can stand where conf/ has `example`: a text there may be an interpolation, or a word for many."""
    if example is None or value is None:
        return not isinstance(value, dict)
    if isinstance(example, str):
        return not isinstance(value, list | dict)
    return fits(value, type(example))


def kind_of(expected: Any) -> str:
    """A type hint in words."""
    inner = typing.get_args(expected)
    if typing.get_origin(expected) in (Union, types.UnionType):
        return " or ".join(kind_of(choice) for choice in inner)
    if typing.get_origin(expected) is Literal:
        return " or ".join(map(str, inner))
    if expected in SCALARS:
        return SCALARS[expected]
    if typing.get_origin(expected) is tuple and inner[-1] is not Ellipsis:
        return f"a list of {len(inner)}"
    if (typing.get_origin(expected) or expected) is dict:
        return "a group of keys"
    return "a list"

"""Typed values of settings, from a command line's text or from TOML."""

import ast
import math
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from mlic_core.errors import InputError

# What Python raises for text that is no literal: too deep, too large, or none at all.
UNREADABLE = (TypeError, ValueError, SyntaxError, OverflowError, RecursionError, MemoryError)
LONGEST = 200  # characters of a wrong value that a message repeats
WORDS = {"true": True, "false": False, "none": None}


def convert(key: str, value: Any, kind: Any) -> Any:
    """`value` as the type `kind`: bool, int, float, str, a Literal, a tuple or a union of these.

    Text is read as the type asks: "1e-4" is a float, "true" a bool, "[30, 50]" a tuple, "none" None. An integer does
    for a float; nothing else is cast. Raises InputError naming the key and the type wanted.
    """
    try:
        return _convert(value, kind)
    except UNREADABLE:
        raise InputError(f"{key}={_shown(value)}: expected {describe(kind)}") from None


def _shown(value: Any) -> str:
    """The value, or its beginning; an integer of thousands of digits has no text at all."""
    try:
        text = str(value)
    except ValueError:
        return "(a number of thousands of digits)"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def describe(kind: Any) -> str:
    """The type in words: "an integer", "a list of numbers", "one of 'sgd', 'adam'"."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, inner))
    if origin in (Union, UnionType):
        return " or ".join(describe(member) for member in inner)
    if origin is tuple:
        word = {int: "integers", float: "numbers", str: "texts", bool: "true or false"}.get(inner[0], "values")
        return f"a list of {word}" if Ellipsis in inner else f"a list of {len(inner)} {word}"
    words = {bool: "true or false", int: "an integer", float: "a number", str: "text", NoneType: "none"}
    return words.get(kind, str(kind))


def _convert(value: Any, kind: Any) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        matching = [choice for choice in inner if choice == value or str(choice) == value]
        if not matching:
            raise ValueError
        return matching[0]
    if origin in (Union, UnionType):
        return _first_that_fits(value, inner)
    if kind is str:
        if not isinstance(value, str):
            raise TypeError
        return value
    if isinstance(value, str):
        word = value.strip().lower()
        value = WORDS[word] if word in WORDS else ast.literal_eval(value.strip())
    if origin is tuple:
        return _tuple(value, inner)
    return _scalar(value, kind)


def _first_that_fits(value: Any, kinds: tuple) -> Any:
    for kind in sorted(kinds, key=lambda kind: kind is str):  # text fits anything, so it comes last
        try:
            return _convert(value, kind)
        except UNREADABLE:
            continue
    raise ValueError


def _tuple(value: Any, kinds: tuple) -> tuple:
    if not isinstance(value, (list, tuple)):
        raise TypeError
    if Ellipsis in kinds:
        kinds = kinds[:1] * len(value)
    return tuple(_convert(item, kind) for item, kind in zip(value, kinds, strict=True))


def _scalar(value: Any, kind: type) -> Any:
    if kind is NoneType and value is None:
        return None
    if kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if kind in (bool, int) and type(value) is kind:  # True is no integer here
        return value
    raise TypeError

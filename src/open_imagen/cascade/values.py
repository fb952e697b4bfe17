"""Values as callers have them, Python's, numpy's or torch's, as plain Python values."""

import math
import numbers
from collections.abc import Iterable
from typing import Any

from open_imagen.errors import ConfigError


def unwrapped(value: Any) -> Any:
    """A numpy or torch scalar as a Python value; anything else as it is."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    return value


def whole_number(value: Any, name: str) -> int:
    """A whole number.

    Raises:
        ConfigError: it is none; the message has its name.
    """
    value = unwrapped(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ConfigError(f"{name} = {value!r} must be a whole number.")
    return int(value)


def real_number(value: Any, name: str) -> float:
    """A number that is not NaN.

    Raises:
        ConfigError: it is none; the message has its name.
    """
    value = unwrapped(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or math.isnan(value):
        raise ConfigError(f"{name} = {value!r} must be a number.")
    return float(value)


def text(value: Any, name: str) -> str:
    """Text.

    Raises:
        ConfigError: it is none; the message has its name.
    """
    value = unwrapped(value)
    if not isinstance(value, str):
        raise ConfigError(f"{name} = {value!r} must be text, not {type(value).__name__}.")
    return str(value)


def whole_numbers(values: Any, name: str) -> tuple[int, ...]:
    """Whole numbers, from a list, a tuple, a range or an array.

    Raises:
        ConfigError: they are none; the message has their name.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ConfigError(f"{name} = {values!r} must be a list of whole numbers.")
    return tuple(whole_number(value, f"{name}[{k}]") for k, value in enumerate(values))

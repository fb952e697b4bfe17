"""Frozen dataclasses <-> plain values and TOML, strict about unknown keys."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from open_imagen.errors import ConfigError, UnknownName

C = TypeVar("C")
DEFAULT_MODEL = "scenes"
"""The shipped model that is taken where nobody names one."""


def parse(cls: type[C], values: Mapping[str, Any], section: str = "") -> C:
    """Build a config dataclass from plain values. A key it does not have is an error.

    Raises:
        UnknownName: a key that is no setting, with the nearest one as a hint.
        ConfigError: a value of the wrong type, or a required setting that is missing.
    """
    types = get_type_hints(cls)
    settings = {}
    for key, value in values.items():
        if key not in types:
            raise UnknownName("setting", section + key, [section + name for name in types])
        settings[key] = _convert(types[key], value, section + key)
    for field in fields(cls):  # type: ignore[arg-type]
        required = field.default is MISSING and field.default_factory is MISSING
        if required and field.name not in settings:
            raise ConfigError(f"{section}{field.name} is required.")
    return cls(**settings)


def _convert(wanted: Any, value: Any, path: str) -> Any:
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        if value is None and NoneType in arguments:
            return None
        kinds = [kind for kind in arguments if kind is not NoneType]
        for kind in kinds[:-1]:
            try:
                return _convert(kind, value, path)
            except ConfigError:
                continue
        return _convert(kinds[-1], value, path)
    if origin is tuple:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ConfigError(f"{path} must be a list, not {value!r}.")
        return tuple(_convert(arguments[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path} must be a table, not {value!r}.")
        return {key: _convert(arguments[1], item, f"{path}.{key}") for key, item in value.items()}
    if is_dataclass(wanted):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path} must be a table of settings, not {value!r}.")
        return parse(wanted, value, f"{path}.")  # type: ignore[arg-type]
    if wanted is float and type(value) is int:
        return float(value)
    if wanted in (bool, int, float, str) and type(value) is not wanted:
        raise ConfigError(f"{path} must be {wanted.__name__}, not {value!r}.")
    return value


def plain(config: Any) -> Any:
    """The plain values behind a config: dataclasses become dicts, tuples lists, None is left out.

    Leaving None out makes ``parse(type(c), plain(c)) == c`` hold through TOML, which has no null.
    """
    if is_dataclass(config) and not isinstance(config, type):
        values = {field.name: plain(getattr(config, field.name)) for field in fields(config)}
        return {key: value for key, value in values.items() if value is not None}
    if isinstance(config, Mapping):
        return {key: plain(value) for key, value in config.items()}
    if isinstance(config, tuple | list):
        return [plain(item) for item in config]
    return config


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: the file is missing or is not TOML; the message says where.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a text file in UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error


def to_toml(values: Mapping[str, Any], section: str = "") -> str:
    """Plain values as TOML text: settings first, then one section per table.

    >>> print(to_toml({"name": "tiny", "train": {"images": 3000}}), end="")
    name = "tiny"
    <BLANKLINE>
    [train]
    images = 3000
    """
    lines = [
        f"{key} = {_toml_value(value)}"
        for key, value in values.items()
        if not isinstance(value, Mapping)
    ]
    text = "".join(line + "\n" for line in lines)
    for key, value in values.items():
        if isinstance(value, Mapping):
            name = f"{section}{key}"
            text += f"\n[{name}]\n" + to_toml(value, f"{name}.").removeprefix("\n")
    return text


def _toml_value(value: Any) -> str:
    if isinstance(value, float):
        return repr(value)  # repr writes inf and nan as TOML does
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def override(values: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Apply ``a.b=c`` assignments to nested plain values; c is read as TOML, else as text.

    >>> override({"train": {"images": 1}}, ["train.images=20", "name=try"])
    {'train': {'images': 20}, 'name': 'try'}

    Raises:
        ConfigError: an assignment without "=", or one that passes through a plain value.
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise ConfigError(
                f"--set {assignment!r} has no value.", "Write --set section.setting=value."
            )
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        *sections, key = path.strip().split(".")
        table = values
        for name in sections:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise ConfigError(f"--set {assignment!r}: {name!r} is a value, not a section.")
        table[key] = value
    return values

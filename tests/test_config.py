"""Configs: strict, typed, and the same after a trip through TOML."""

import tomllib
from dataclasses import dataclass, field

import pytest

from open_imagen.config import override, parse, plain, read_toml, to_toml
from open_imagen.errors import ConfigError, UnknownName


@dataclass(frozen=True, kw_only=True)
class Optim:
    learning_rate: float = 0.1
    betas: tuple[float, ...] = (0.9, 0.99)


@dataclass(frozen=True, kw_only=True)
class Run:
    data: str
    batch_size: int = 8
    limit: float | None = None
    optim: Optim = field(default_factory=Optim)
    extra: dict[str, int] = field(default_factory=dict)


def refusal(values):
    with pytest.raises(ConfigError) as caught:
        parse(Run, values)
    return str(caught.value), caught.value.hint


def test_values_are_typed():
    run = parse(Run, {"data": "x", "optim": {"learning_rate": 1, "betas": [0.5]}, "limit": 2})
    assert run == Run(data="x", optim=Optim(learning_rate=1.0, betas=(0.5,)), limit=2.0)


@pytest.mark.parametrize(
    "values, message, hint",
    [
        (
            {"data": "x", "batchsize": 1},
            "There is no setting called 'batchsize'.",
            "Did you mean 'batch_size'?",
        ),
        (
            {"data": "x", "optim": {"lerning_rate": 1.0}},
            "There is no setting called 'optim.lerning_rate'.",
            "Did you mean 'optim.learning_rate'?",
        ),
        ({"data": "x", "batch_size": "64"}, "batch_size must be int, not '64'.", ""),
        ({"data": "x", "batch_size": True}, "batch_size must be int, not True.", ""),
        ({"data": "x", "optim": 3}, "optim must be a table of settings, not 3.", ""),
        ({"data": "x", "optim": {"betas": 3}}, "optim.betas must be a list, not 3.", ""),
        ({"data": "x", "extra": {"a": "b"}}, "extra.a must be int, not 'b'.", ""),
        ({}, "data is required.", ""),
    ],
)
def test_wrong_values_are_named(values, message, hint):
    assert refusal(values) == (message, hint)


def test_a_config_survives_toml():
    run = Run(data='a "quoted" path', limit=float("inf"), extra={"k": 1})
    assert parse(Run, tomllib.loads(to_toml(plain(run)))) == run


def test_overrides_are_typed_and_nested():
    values = override({"a": {"b": 1}}, ["a.c=[1, 2]", "a.b=0.5", "name=plain text"])
    assert values == {"a": {"b": 0.5, "c": [1, 2]}, "name": "plain text"}


@pytest.mark.parametrize("assignment", ["no_value", "=3", "a.b.c=1"])
def test_bad_overrides_are_refused(assignment):
    with pytest.raises(ConfigError):
        override({"a": {"b": 1}}, [assignment])


def test_unreadable_toml_is_named(tmp_path):
    bad = tmp_path / "bad.toml"
    with pytest.raises(ConfigError, match="Cannot read"):
        read_toml(bad)
    bad.write_text("a = = 1")
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_toml(bad)
    bad.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_toml(bad)


def test_an_unknown_name_lists_all_when_none_is_close():
    assert UnknownName("sampler", "zzz", ["ddim", "heun"]).hint == "Choose from: ddim, heun."

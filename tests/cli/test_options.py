"""Options for all stages or for one each, and files of prompts."""

import inspect
import re

import pytest

from open_imagen.cascade.sampling import Sampling
from open_imagen.cli import generate
from open_imagen.cli.options import per_stage, read_prompts, read_settings, sampling
from open_imagen.diffusion.guidance import KINDS
from open_imagen.diffusion.samplers import SAMPLERS
from open_imagen.diffusion.schedules import SPACINGS
from open_imagen.errors import ConfigError, DataError, UnknownName


def test_a_value_for_all_and_values_for_some_mix():
    options = {"steps": per_stage("20,sr256=5", "--steps", int)}
    found = sampling(options, ["base", "sr256"])
    assert (found["base"].steps, found["sr256"].steps) == (20, 5)
    assert sampling({"steps": {}}, ["base"])["base"].given() == {}


def test_wrong_values_and_stages_are_named():
    with pytest.raises(ConfigError, match=r"--guidance base=x: 'x' is not a number"):
        per_stage("base=x", "--guidance", float)
    with pytest.raises(UnknownName) as caught:
        sampling({"steps": {"sr25": 3}}, ["base", "sr256"])
    assert caught.value.hint == "Did you mean 'sr256'?"


def test_prompts_come_from_lines_and_from_jsonl(tmp_path):
    lines, rows = tmp_path / "p.txt", tmp_path / "p.jsonl"
    lines.write_text("a red circle\n\n  a blue star \n")
    rows.write_text('{"prompt": "a red circle"}\n{"prompt": "a blue star", "x": 1}\n')
    assert read_prompts(lines) == read_prompts(rows) == ["a red circle", "a blue star"]


@pytest.mark.parametrize(
    "name, content", [("e.txt", b"\n"), ("b.txt", b"\xff\xfe"), ("j.jsonl", b'{"text": 1}')]
)
def test_files_without_prompts_are_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        read_prompts(tmp_path / name)


def test_undistilled_is_for_every_stage():
    given = read_settings("4", None, None, None, None, undistilled=True)
    settings = sampling(given, ["base", "sr256"])
    assert [one.given() for one in settings.values()] == [{"steps": 4, "adapter": "none"}] * 2
    assert sampling(read_settings("4", None, None, None, None), ["base"])["base"].adapter is None


@pytest.mark.parametrize(
    "option, setting, names",
    [
        (generate.Sampler, "sampler", SAMPLERS),
        (generate.GuidanceKind, "guidance_kind", KINDS),
        (generate.Thresholding, "threshold", ("dynamic", "static", "none")),
        (None, "spacing", SPACINGS),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_help_and_reference_name_what_there_is(option, setting, names):
    lines = inspect.getsource(Sampling).splitlines()
    place = next(k for k, line in enumerate(lines) if line.strip().startswith(f"{setting}:"))
    told = [lines[place + 1]] + ([option.help] if option else [])
    for text in told:
        words = set(re.findall(r"[a-z][a-z0-9_]+", text))
        assert set(names) <= words, text
        assert not {"even", "late", "euler"} & words

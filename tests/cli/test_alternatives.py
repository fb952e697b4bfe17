"""{red|blue} in prompts: the same on the command line and in the studio."""

import json
import shutil
import subprocess
from importlib.resources import files

import pytest

from open_imagen.cli.alternatives import alternatives
from open_imagen.errors import ConfigError

CASES = {
    "a cat": ["a cat"],
    "a {red|blue} {cat|dog}": ["a red cat", "a red dog", "a blue cat", "a blue dog"],
    "{a|{b|c} d}": ["a", "b d", "c d"],
    "a {big|} cat": ["a big cat", "a cat"],
    "{a|a|b}": ["a", "b"],
    "{n} and {": ["{n} and {"],
    "{a|b": ["{a|b"],
    "a|b}": ["a|b}"],
    "{{x}|y}": ["{x}", "y"],
    r"\{a|b\} {c\|d|e}": ["{a|b} c|d", "{a|b} e"],
    "two  spaces \\": ["two  spaces \\"],
    "\u4e00{\u7ea2|\u84dd}\u732b": ["\u4e00\u7ea2\u732b", "\u4e00\u84dd\u732b"],
    "{" * 5000: ["{" * 5000],
}


@pytest.mark.parametrize("text", CASES, ids=lambda text: text[:20])
def test_all_prompts_of_a_text(text):
    assert alternatives(text) == CASES[text]


@pytest.mark.parametrize("text", ["{0|1|2|3|4|5|6|7|8|9}" * 5, "{a|" * 60 + "b" + "}" * 60])
def test_too_many_and_too_deep_are_said(text):
    with pytest.raises(ConfigError, match="alternatives of"):
        alternatives(text)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_studio_has_the_same_rules():
    module = files("open_imagen").joinpath("server/static/studio/prompts.js")
    script = (
        f"const {{ alternatives }} = await import('file://{module}');"
        "console.log(JSON.stringify(JSON.parse(process.argv[1]).map(alternatives)))"
    )
    command = [
        "node",
        "--input-type=module",
        "--no-warnings",
        "--eval",
        script,
        json.dumps([*CASES]),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == [*CASES.values()]

"""Write the reference pages of commands and recipe keys from the code: docs/reference/*.md.

python scripts/generate_reference.py            # write the pages
python scripts/generate_reference.py --check    # exit 1 if a page is not what the code says
"""

import argparse
import ast
import html
import inspect
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import typer

from open_imagen.cli.main import app
from open_imagen.config import plain
from open_imagen.data.registry import SOURCES
from open_imagen.models.registry import NETWORKS, PRESETS
from open_imagen.training.recipe import Recipe
from open_imagen.worlds import sources as _sources_of_worlds  # noqa: F401, registers them

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"
GENERATED = "<!-- Written by scripts/generate_reference.py. Do not edit. -->\n"
BY_NAME = {
    "network": "[stage.network]",
    "data": "[data]",
    "validation": "[data]",
}
"""Tables whose settings depend on a name that they hold."""


def main() -> None:
    """Write or check both pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 on a difference"
    )
    check = parser.parse_args().check
    stale = []
    for name, text in pages().items():
        path = FOLDER / name
        if check:
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                stale.append(name)
        else:
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.exit(f"Not what the code says: {', '.join(stale)}. Run {Path(__file__).name}.")


def pages() -> dict[str, str]:
    """File name -> Markdown."""
    return {"commands.md": commands_page(), "recipe.md": recipe_page()}


def commands_page() -> str:
    """Every command with its arguments and options, as its --help says."""
    root = typer.main.get_command(app)
    parts = [
        "# Commands\n",
        GENERATED,
        "Messages and progress go to stderr, results to stdout. Exit status: 0 done, 1 failed with "
        "a message, 2 wrong usage or a wrong setting.\n",
    ]
    parts += [_command(path, command) for path, command in _commands(root, "imagen")]
    return "\n".join(parts)


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in sorted(children.items()):
        yield from _commands(child, f"{path} {name}")


def _command(path: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    usage = " ".join([path, *(_usage(one) for one in arguments), *(["[OPTIONS]"] * bool(options))])
    text = inspect.cleandoc(command.help or "")
    lines = [f"## {path}\n", f"```\n{usage}\n```\n", f"{text}\n"]
    if any(_about(one) for one in arguments):
        rows = [(f"`{_argument_name(one)}`", _about(one), "") for one in arguments]
        lines.append(_table(("argument", "", ""), rows))
    if options:
        rows = [(_flags(one), _about(one), _default(one)) for one in options]
        lines.append(_table(("option", "", "default"), rows))
    return "\n".join(lines)


def _usage(argument: Any) -> str:
    name = _argument_name(argument)
    more = "..." if argument.nargs == -1 else ""
    return f"{name}{more}" if argument.required else f"[{name}{more}]"


def _argument_name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper()).strip("[]").removesuffix("...")


def _flags(option: Any) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    if option.is_flag or getattr(option, "count", False):
        return f"`{names}`"
    kind = option.metavar or getattr(option.type_descriptor.annotation, "__name__", "text").upper()
    return _code(f"{names} {kind}")


def _code(text: str) -> str:
    """Code for a table's cell. A bar would end the cell, also within backticks on GitHub."""
    if "|" in text:
        return f"<code>{html.escape(text).replace('|', '&#124;')}</code>"
    return f"`{text}`"


def _about(parameter: Any) -> str:
    return _cell(getattr(parameter, "help", None) or "")


def _default(option: Any) -> str:
    value = option.default
    if option.required:
        return "required"
    if value is None or value is False or value in ((), [], "") or callable(value):
        return ""
    return f"`{value}`"


def recipe_page() -> str:
    """Every key of a recipe with its type, default and description."""
    parts = [
        "# Recipe keys\n",
        GENERATED,
        "A recipe is a TOML file that describes one training run. `imagen train RECIPE --set "
        "a.b=c` overrides a key. Unknown keys are errors. Keys without a default are required.\n",
        *_sections(Recipe, ""),
        "## [stage.network]\n",
        'Either `preset = "NAME"` with any keys of its network beside it, or `network = "KIND"` '
        "with that network's keys.\n",
        _table(
            ("preset", "network", "image side", ""),
            [
                (f"`{name}`", f"`{preset.network}`", str(preset.resolution), _cell(preset.about))
                for name, preset in sorted(PRESETS.items())
            ],
        ),
    ]
    for name, (config, _) in sorted(NETWORKS.items()):
        parts += _sections(config, f'stage.network (network = "{name}")')
    parts += ["## [data]\n", "`kind` chooses the source; the other keys are those of the source.\n"]
    for name, (config, _) in sorted(SOURCES.items()):
        parts += _sections(config, f'data (kind = "{name}")')
    return "\n".join(parts)


def _sections(config: type[Any], path: str) -> Iterator[str]:
    """The table of a config, then those of the configs inside it."""
    types, about = get_type_hints(config), _descriptions(config)
    rows, inner = [], []
    for field in fields(config):
        kind = types[field.name]
        if is_dataclass(kind):
            inner.append((field.name, kind))
            continue
        note = BY_NAME.get(field.name) if path in ("", "stage") else None
        text = about.get(field.name, "")
        if note and field.name in BY_NAME:
            text = f"{text} See {note}."
        rows.append((f"`{field.name}`", _type_name(kind), _default_of(field), _cell(text)))
    heading = (
        f"## [{path}]" if path and "(" not in path else f"### {path}" if path else "## Top level"
    )
    yield heading + "\n"
    if rows:
        yield _table(("key", "type", "default", ""), rows)
    for name, kind in inner:
        yield from _sections(kind, f"{path}.{name}" if path else name)


def _descriptions(config: type[Any]) -> dict[str, str]:
    """Field name -> the string below it in the source, of the class and those it inherits from."""
    found: dict[str, str] = {}
    for one in reversed(config.__mro__):
        if not is_dataclass(one):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
        assert isinstance(body, ast.ClassDef)
        names: list[str] = []
        for node in body.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.append(node.target.id)
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and names:
                found[names[-1]] = inspect.cleandoc(str(node.value.value))
                names = []
    return found


def _type_name(kind: Any) -> str:
    text = kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
    for long, short in (
        ("typing.", ""),
        ("NoneType", "none"),
        ("None", "none"),
        ("tuple[", "list of ["),
        (", ...]", "]"),
        ("pathlib._local.Path", "path"),
        ("pathlib.Path", "path"),
        ("Path", "path"),
        ("dict[str, Any]", "table"),
        ("|", "or"),
    ):
        text = text.replace(long, short)
    return text.replace("list of [", "list of ").removesuffix("]") if "list of" in text else text


def _default_of(field: Field[Any]) -> str:
    value = field.default
    if value is MISSING:
        if field.default_factory is MISSING:
            return "required"
        value = plain(field.default_factory())
    if value is None or value == "" or value in ({}, [], ()):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table without its empty columns."""
    kept = [k for k, name in enumerate(head) if k == 0 or any(row[k] for row in rows)]
    lines = [
        [head[k] for k in kept],
        ["---"] * len(kept),
        *([row[k] for k in kept] for row in rows),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    main()

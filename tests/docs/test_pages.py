"""The documentation holds together: links, lengths, names of files, variables and options."""

import ast
import re
import shlex
from pathlib import Path

import click
import pytest
import typer

from markdown_pages import DOCS, ROOT, anchors, fences, links
from open_imagen.cli.main import app

PAGES = sorted(DOCS.rglob("*.md"))
OTHERS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "research").glob("*.md")),
    ROOT / "benchmarks" / "README.md",
]
GENERATED = {"commands.md", "recipe.md", "networks.md", "benchmarks.md"}
"""Reference pages that a command writes."""
MAX_LINES = 250
SOURCES = ("src", "scripts", "recipes", "benchmarks", "tests")


def read(path):
    return path.read_text(encoding="utf-8")


def name(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=name)
def test_internal_links_lead_to_a_file_and_an_anchor(page):
    broken = []
    for link in links(read(page)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.is_file() or (anchor and anchor not in anchors(read(target))):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_pages_of_the_site_link_to_pages_of_the_site(page):
    """Other files of the repository are named as code: the site does not have them."""
    outside = [
        link
        for link in links(read(page))
        if not re.match(r"[a-z]+:|#", link)
        and not (page.parent / link.partition("#")[0]).resolve().is_relative_to(DOCS)
    ]
    assert not outside


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in GENERATED], ids=name)
def test_no_page_is_too_long(page):
    assert len(read(page).splitlines()) <= MAX_LINES, "split the page"


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_readme_is_short(page):
    assert len(read(ROOT / page).splitlines()) <= 120


def test_every_page_is_in_the_navigation():
    named = set(re.findall(r"[\w./-]+\.md", read(ROOT / "mkdocs.yml").partition("\nnav:")[2]))
    assert named == {page.relative_to(DOCS).as_posix() for page in PAGES}


def test_pages_that_the_source_names_exist():
    missing = {}
    for folder in SOURCES:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix not in (".py", ".toml", ".md", ".sh") or path == Path(__file__):
                continue
            text = read(path).replace('" / "', "/")  # paths that are joined
            for page in re.findall(r"\b(?:docs|research)/[\w./-]+\.(?:md|json)\b", text):
                if not (ROOT / page).is_file():
                    missing.setdefault(page, name(path))
    assert not missing


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=name)
def test_files_of_the_repository_that_a_page_names_exist(page):
    named = re.findall(r"(?:research|recipes|scripts|benchmarks|tests|docs)/[\w./-]+", read(page))
    files = {file.rstrip(".") for file in named if re.search(r"\.\w+$", file.rstrip("."))}
    assert not [file for file in files if not (ROOT / file).exists()]


def variables_of(path):
    """Environment variables that a module reads, through os.environ or a name for it."""
    tree = ast.parse(read(path))
    constants, aliases = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if isinstance(node.value, ast.Constant):
                constants[node.targets[0].id] = node.value.value
            elif ast.unparse(node.value) == "os.environ":
                aliases.add(node.targets[0].id)
    sources = {"os.environ", *aliases}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            asked = ast.unparse(node.func.value) in sources and node.func.attr == "get"
            key = node.args[0] if asked or ast.unparse(node.func) == "os.getenv" else None
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) in sources:
            key = node.slice
        else:
            continue
        if isinstance(key, ast.Constant):
            yield key.value
        elif isinstance(key, ast.Name):
            yield constants[key.id]


def test_the_table_of_environment_variables_is_what_the_source_reads():
    page = read(DOCS / "reference" / "environment.md").partition("Libraries read their own")[0]
    rows = re.findall(r"^\| (`.+?) \|", page, re.MULTILINE)
    documented = {variable for row in rows for variable in re.findall(r"`(\w+)`", row)}
    modules = (ROOT / "src").rglob("*.py")
    assert documented == {variable for module in modules for variable in variables_of(module)}


def command_lines(page):
    """The `imagen` commands of a page, as their arguments."""
    for fence in fences(read(page)):
        if fence.language in ("python", "toml", "yaml", "ini", "dockerfile"):
            continue
        for line in fence.commands():
            found = re.match(r"(?:\S*bin/)?imagen (.+)|.*-m open_imagen (.+)", line)
            if found and not re.search(r"\[[-A-Z]|\.\.\.", line):  # a synopsis
                yield shlex.split(found[1] or found[2])


def unknown_option(arguments):
    """The first option of a command line that its command does not have, or what is no command."""
    command = typer.main.get_command(app)
    words = list(arguments)
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        word = words.pop(0)
        if word.startswith("-"):
            break
        if word not in command.commands:
            return word
        command = command.commands[word]
    known = {opt for p in command.params for opt in (*p.opts, *p.secondary_opts)}
    known |= {"--help", "-h"}
    options = [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    return next((option for option in options if option not in known), None)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "README.zh-CN.md"], ids=name)
def test_commands_have_the_options_that_a_page_gives_them(page):
    wrong = [(unknown_option(words), words) for words in command_lines(page)]
    assert not [one for one in wrong if one[0]]


def test_an_option_that_does_not_exist_is_found():
    assert unknown_option(["generate", "a cat", "--seeds", "1"]) == "--seeds"
    assert unknown_option(["evaluate", "shape"]) == "shape"
    assert unknown_option(["generate", "a cat", "--seed", "1", "-n", "2"]) is None


@pytest.mark.parametrize(
    "english, chinese",
    [("README.md", "README.zh-CN.md"), ("docs/quickstart.md", "docs/quickstart.zh-CN.md")],
)
def test_the_chinese_page_has_the_same_commands(english, chinese):
    ours, theirs = (
        [fence.commands() for fence in fences(read(ROOT / page))] for page in (english, chinese)
    )
    assert ours == theirs

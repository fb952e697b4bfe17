"""The layers: imports go down, packages of one layer are independent, no circles."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "open_imagen"
LAYERS = [
    {
        *("errors", "registry", "config", "types", "storage", "locks", "devices"),
        *("distributed", "version", "world"),
    },
    {"diffusion", "text", "models", "data"},
    {"backends"},
    {"cascade"},
    {"training", "evaluation", "exporters"},
    {"server", "planning", "worlds"},
    {"cli"},
]
LAYER = {package: layer for layer, packages in enumerate(LAYERS) for package in packages}


def dotted(path: Path) -> str:
    """src/open_imagen/text/cache.py -> "text.cache"; .../text/__init__.py -> "text"."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


# These may import anything: they are the public entry points.
ENTRY_POINTS = {PACKAGE / name for name in ("__init__.py", "__main__.py", "networks.py")}
PATHS = {dotted(p): p for p in sorted(PACKAGE.rglob("*.py")) if p not in ENTRY_POINTS}
TREES = {name: ast.parse(path.read_text()) for name, path in PATHS.items()}
INIT_FILES = [name for name, path in PATHS.items() if path.name == "__init__.py"]
MODULES = [name for name in PATHS if name not in INIT_FILES]


def imports(tree: ast.AST) -> set[str]:
    """Every name imported from our package, wherever in the file: {"text.cache.warm", ...}."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write absolute imports"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {
        name.removeprefix("open_imagen.") for name in found if name.split(".")[0] == "open_imagen"
    }


def module_of(name: str) -> str:
    """The file that `import name` loads: "text.cache.warm" -> "text.cache"."""
    while name and name not in PATHS:
        name = name.rpartition(".")[0]
    return name


@pytest.mark.parametrize("module", PATHS)
def test_imports_go_down(module):
    package = module.split(".")[0]
    assert package in LAYER, f"give {package!r} a layer, or move this file to a package with one"
    for name in imports(TREES[module]):
        other = name.split(".")[0]
        assert other in LAYER, f"{module}: import {name!r} from the file that defines it"
        lower = LAYER[other] < LAYER[package]
        both_at_the_bottom = LAYER[other] == LAYER[package] == 0
        assert lower or other == package or both_at_the_bottom, f"{module} must not import {name}"


@pytest.mark.parametrize("module", INIT_FILES)
def test_init_files_only_reexport_their_own_package(module):
    packages = {name.split(".")[0] for name in imports(TREES[module])}
    assert packages <= {module.split(".")[0]}
    for node in TREES[module].body:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        assert isinstance(node, ast.ImportFrom | ast.Assign) or is_text, "no work in __init__.py"


def test_no_import_circles():
    graph = {
        module: {module_of(name) for name in imports(tree)} - {module, ""}
        for module, tree in TREES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


WORLDS = {path.name for path in (PACKAGE / "worlds").iterdir() if (path / "__init__.py").exists()}
BELOW_WORLDS = [name for name in PATHS if LAYER[name.split(".")[0]] < LAYER["worlds"]]


@pytest.mark.parametrize("module", BELOW_WORLDS)
def test_no_file_below_the_worlds_names_one(module):
    docs = {
        id(node.body[0].value)
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            assert node.value.split(":")[0] not in WORLDS, f"line {node.lineno}: {node.value!r}"


@pytest.mark.parametrize("module", MODULES)
def test_every_file_says_in_one_sentence_what_it_is_for(module):
    assert ast.get_docstring(TREES[module])

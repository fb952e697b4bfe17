"""The house rules: imports point down, rooms on one floor are strangers, no circles."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "open_imagen"
FLOORS = [
    {
        *("errors", "registry", "config", "types", "storage", "locks", "devices", "recording"),
        *("distributed", "version", "world"),
    },
    {"diffusion", "text", "models", "data"},
    {"cascade"},
    {"training", "evaluation"},
    {"serving", "planning", "worlds"},
    {"cli"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def dotted(path: Path) -> str:
    """src/open_imagen/text/cache.py -> "text.cache"; .../text/__init__.py -> "text"."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


# These may name anything: they are how the outside sees the house.
FRONT_DOORS = {PACKAGE / name for name in ("__init__.py", "__main__.py", "networks.py")}
PATHS = {dotted(p): p for p in sorted(PACKAGE.rglob("*.py")) if p not in FRONT_DOORS}
TREES = {name: ast.parse(path.read_text()) for name, path in PATHS.items()}
DOORS = [name for name, path in PATHS.items() if path.name == "__init__.py"]
MODULES = [name for name in PATHS if name not in DOORS]


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
def test_imports_point_down(module):
    room = module.split(".")[0]
    assert room in FLOOR, f"give {room!r} a floor, or put this file in a room that has one"
    for name in imports(TREES[module]):
        other = name.split(".")[0]
        assert other in FLOOR, f"{module}: import {name!r} from the file that defines it"
        lower = FLOOR[other] < FLOOR[room]
        both_on_ground = FLOOR[other] == FLOOR[room] == 0
        assert lower or other == room or both_on_ground, f"{module} must not import {name}"


@pytest.mark.parametrize("door", DOORS)
def test_init_files_only_reexport_their_own_room(door):
    rooms = {name.split(".")[0] for name in imports(TREES[door])}
    assert rooms <= {door.split(".")[0]}
    for node in TREES[door].body:
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
BELOW_WORLDS = [name for name in PATHS if FLOOR[name.split(".")[0]] < FLOOR["worlds"]]


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

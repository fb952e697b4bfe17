"""One Python file out of definitions of this package, so that it runs without the package.

Only what the wanted names need is taken, word for word, in an order in which it can run; names that
two modules use for different things are told apart.
"""

import ast
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = "open_imagen"
Symbol = tuple[str, str]
"""A module and a name that it defines."""


@dataclass(eq=False)
class Definition:
    """A statement at the top of a module: a function, a class, an assignment, a registration."""

    module: str
    node: ast.stmt
    names: set[str]
    """The names that it defines; none for a registration."""
    registry: str = ""
    """The table that it puts something into."""
    last_line: int = 0
    """With the documentation that follows an assignment."""


@dataclass(eq=False)
class Module:
    """A module of this package, read and not run."""

    name: str
    lines: list[str]
    definitions: list[Definition] = field(default_factory=list)
    ours: dict[str, Symbol] = field(default_factory=dict)
    """Names from modules of this package."""
    imports: dict[str, str] = field(default_factory=dict)
    """Names from elsewhere: the import statement of each."""


def bundle(
    roots: Iterable[Symbol],
    docstring: str,
    dropped: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """The source of a file that defines the roots and all that they use.

    Args:
        roots: what the file is for.
        docstring: of the file.
        dropped: methods that are left out, by class.
    """
    bundler = _Bundler(dropped or {})
    for root in roots:
        bundler.take(root)
    return bundler.text(docstring)


class _Bundler:
    def __init__(self, dropped: Mapping[str, Sequence[str]]) -> None:
        self.dropped = dropped
        self.modules: dict[str, Module] = {}
        self.order: list[str] = []
        """Modules, those that others import first."""
        self.taken: dict[int, Definition] = {}
        self.imports: dict[str, str] = {}

    def module(self, name: str) -> Module:
        if name not in self.modules:
            self.modules[name] = read_module(name)
            for other, _ in self.modules[name].ours.values():
                self.module(other)
            self.order.append(name)
        return self.modules[name]

    def take(self, symbol: Symbol) -> None:
        """A name's definition and, in turn, all that it uses."""
        module = self.module(symbol[0])
        found = [one for one in module.definitions if symbol[1] in one.names]
        assert found, f"{symbol[0]} defines no {symbol[1]}"
        for definition in found:
            self._take(definition)

    def _take(self, definition: Definition) -> None:
        if id(definition) in self.taken:
            return
        self.taken[id(definition)] = definition
        module = self.modules[definition.module]
        own = {name for one in module.definitions for name in one.names}
        for name in sorted(self._used(definition)):
            if name in module.ours:
                self.take(module.ours[name])
            elif name in module.imports:
                self.imports[name] = module.imports[name]
            elif name in own:
                self.take((module.name, name))
        # A table is worth what is in it: all registrations in modules that are read anyway.
        tables = {name for one in self.taken.values() for name in one.names}
        for known in list(self.modules.values()):
            for one in known.definitions:
                if one.registry in tables and self._refers(known, one.registry):
                    self._take(one)

    def _refers(self, module: Module, table: str) -> bool:
        """Whether a module's name of a table is that of a table that was taken."""
        symbol = module.ours.get(table, (module.name, table))
        return any(symbol[1] in d.names and d.module == symbol[0] for d in self.taken.values())

    def _used(self, definition: Definition) -> set[str]:
        skip = self._dropped_nodes(definition)
        return {node.id for node in _walk(definition.node, skip) if isinstance(node, ast.Name)}

    def _dropped_nodes(self, definition: Definition) -> list[ast.stmt]:
        node = definition.node
        if not isinstance(node, ast.ClassDef):
            return []
        names = self.dropped.get(node.name, ())
        return [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name in names]

    def text(self, docstring: str) -> str:
        """The whole file."""
        renamed = self._collisions()
        parts = []
        for name in self.order:
            module = self.modules[name]
            kept = [one for one in module.definitions if id(one) in self.taken]
            if not kept:
                continue
            parts.append(
                f"# From {PACKAGE}/{name.removeprefix(PACKAGE + '.').replace('.', '/')}.py"
            )
            parts += [self._source(module, one, renamed) for one in kept]
        head = [f'"""{docstring}"""', import_lines(self.imports.values())]
        return "\n\n".join(head) + "\n\n\n" + "\n\n\n".join(parts) + "\n"

    def _collisions(self) -> dict[Symbol, str]:
        """New names for what another module has a name for already."""
        seen: dict[str, str] = {}
        renamed: dict[Symbol, str] = {}
        for module in self.order:
            for one in self.modules[module].definitions:
                if id(one) not in self.taken:
                    continue
                for name in one.names:
                    if seen.setdefault(name, module) != module or name in self.imports:
                        renamed[module, name] = f"{module.rpartition('.')[2]}_{name.lstrip('_')}"
        return renamed

    def _source(self, module: Module, definition: Definition, renamed: Mapping[Symbol, str]) -> str:
        """A definition word for word, less dropped methods, names that collide renamed."""
        first = _first_line(definition.node)
        lines = module.lines[first - 1 : definition.last_line]
        edits = []
        for node in _walk(definition.node, self._dropped_nodes(definition)):
            if isinstance(node, ast.Name):
                symbol = module.ours.get(node.id, (module.name, node.id))
                if new := renamed.get(symbol, symbol[1] if symbol[1] != node.id else ""):
                    edits.append((node.lineno - first, node.col_offset, len(node.id), new))
        named = str(getattr(definition.node, "name", ""))
        if (module.name, named) in renamed:
            new = renamed[module.name, named]
            row = definition.node.lineno - first
            edits.append((row, lines[row].index(named), len(named), new))
        for row, column, length, new in sorted(edits, reverse=True):
            line = lines[row].encode()
            lines[row] = (line[:column] + new.encode() + line[column + length :]).decode()
        for node in reversed(self._dropped_nodes(definition)):
            end = node.end_lineno or node.lineno
            del lines[_first_line(node) - first : end - first + 1]
        return "\n".join(lines).rstrip()


def import_lines(statements: Iterable[str]) -> str:
    """Import statements of one name each, those of one module joined."""
    plain, names = set(), dict[str, set[str]]()
    for statement in statements:
        if statement.startswith("from "):
            module, _, name = statement.removeprefix("from ").partition(" import ")
            names.setdefault(module, set()).add(name)
        else:
            plain.add(statement)
    joined = [
        f"from {module} import {', '.join(sorted(names[module]))}" for module in sorted(names)
    ]
    return "\n".join([*sorted(plain), *joined])


def read_module(name: str) -> Module:
    """A module of this package and what stands at its top."""
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"there is no module {name}"
    assert spec.origin is not None, f"{name} is no file"
    text = Path(spec.origin).read_text(encoding="utf-8")
    module = Module(name, text.split("\n"))
    previous: Definition | None = None
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import):
            module.imports |= {
                alias.asname or alias.name.split(".")[0]: ast.unparse(ast.Import([alias]))
                for alias in node.names
            }
        elif isinstance(node, ast.ImportFrom):
            _read_import(module, node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if previous is not None and isinstance(previous.node, ast.Assign | ast.AnnAssign):
                previous.last_line = node.end_lineno or node.lineno
        else:
            previous = Definition(name, node, _defined(node), _registry(node))
            previous.last_line = node.end_lineno or node.lineno
            module.definitions.append(previous)
    return module


def _read_import(module: Module, node: ast.ImportFrom) -> None:
    assert node.module is not None, f"{module.name}: write absolute imports"
    for alias in node.names:
        name = alias.asname or alias.name
        if node.module.split(".")[0] == PACKAGE:
            module.ours[name] = (node.module, alias.name)
        else:
            module.imports[name] = ast.unparse(ast.ImportFrom(node.module, [alias], 0))


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return {
        part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)
    }


def _registry(node: ast.stmt) -> str:
    """The table of ``TABLE.register(name)(what)`` or of a decorator ``@TABLE.register(name)``."""
    calls: list[ast.expr] = []
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        calls = [node.value.func]
    elif isinstance(node, ast.FunctionDef | ast.ClassDef):
        calls = node.decorator_list
    for call in calls:
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            table = call.func.value
            if call.func.attr == "register" and isinstance(table, ast.Name):
                return table.id
    return ""


def _first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(one.lineno for one in decorators)])


def _walk(node: ast.AST, skip: Sequence[ast.AST]) -> Iterable[ast.AST]:
    if any(node is one for one in skip):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, skip)

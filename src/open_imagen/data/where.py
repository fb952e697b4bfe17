"""Conditions on the columns of examples, such as ``width >= 256 and score > 5``.

A small language with a parser of its own: nothing of Python is evaluated.

    condition   := all ("or" all)*
    all         := not ("and" not)*
    not         := "not" not | comparison
    comparison  := sum [("==" | "!=" | "<" | "<=" | ">" | ">=" | ["not"] "in") sum]
    sum         := product (("+" | "-") product)*
    product     := value (("*" | "/") value)*
    value       := number | 'text' | name | "-" value | "(" condition ")" | "[" value, ... "]"

A comparison with a column that an example lacks, or of a text with a number, is false. Text that
spells a number compares as one: tables in CSV hold nothing else.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any

from open_imagen.errors import ConfigError, DataError

Row = Mapping[str, Any]
Node = Callable[[Row], Any]

TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)|(?P<name>[^\W\d]\w*)"
    r"|(?P<text>'[^']*'|\"[^\"]*\")|(?P<sign>==|!=|<=|>=|[-<>+*/()\[\],]))"
)
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
KEYWORDS = {"and", "or", "not", "in"}
MAX_DEPTH = 50
MAX_TOKENS = 500
EXAMPLE = "An example: width >= 256 and score > 5"


class Where:
    """A condition that was parsed.

    >>> Where("width >= 256 and style in ['flat', '3d']")({"width": 300, "style": "3d"})
    True
    """

    def __init__(self, text: str, setting: str = "data.where") -> None:
        """Parse a condition.

        Raises:
            ConfigError: it is no condition; the message shows where it goes wrong.
        """
        self.text, self.setting = text, setting
        parser = _Parser(text, setting)
        self._test = parser.parse()
        self.names = frozenset(parser.names)
        """The columns that it reads."""

    def __call__(self, row: Row) -> bool:
        """Whether the condition holds for a row."""
        return bool(self._test(row))

    def check_columns(self, known: Set[str], of: str) -> None:
        """Check that the columns that the condition reads exist.

        Raises:
            DataError: it reads a column that is not there.
        """
        for name in sorted(self.names - known):
            raise DataError(
                f"{self.setting} = {self.text!r} reads {name!r}, which {of} does not have.",
                f"It has: {', '.join(sorted(known))}.",
            )


def _number(value: Any) -> Any:
    """A text that spells a number as that number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _compare(sign: str, left: Any, right: Any) -> bool:
    if left is None or right is None:
        return False
    if sign == "in":
        if isinstance(right, str):
            return isinstance(left, str) and left in right
        return any(_compare("==", left, one) for one in right) if _is_list(right) else False
    if not (isinstance(left, str) and isinstance(right, str)):
        left, right = _number(left), _number(right)
    try:
        return bool(COMPARISONS[sign](left, right))
    except TypeError:
        return False


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _calculate(sign: str, left: Any, right: Any) -> Any:
    left, right = _number(left), _number(right)
    if not isinstance(left, int | float) or not isinstance(right, int | float):
        return None
    try:
        return ARITHMETIC[sign](left, right)
    except (ZeroDivisionError, OverflowError):
        return None


class _Parser:
    """Recursive descent over the tokens."""

    def __init__(self, text: str, setting: str) -> None:
        self.text, self.setting = text, setting
        self.names: set[str] = set()
        self.tokens = list(self._split())
        if len(self.tokens) > MAX_TOKENS:
            raise ConfigError(f"{setting} has more than {MAX_TOKENS} words and signs.", EXAMPLE)
        self.place = self.depth = 0

    def _split(self) -> Iterator[tuple[str, str, int]]:
        place, end = 0, len(self.text.rstrip())
        while place < end:
            match = TOKEN.match(self.text, place)
            if match is None:
                raise self._wrong(place)
            kind = str(match.lastgroup)
            yield kind, match[kind], match.start(kind)
            place = match.end()
        yield "end", "", end

    def _wrong(self, place: int, wanted: str = "") -> ConfigError:
        rest = self.text[place : place + 20].strip()
        there = f"at {rest!r}" if rest else "at its end"
        message = f"{self.setting} = {self.text!r} is no condition: it goes wrong {there}"
        return ConfigError(f"{message}{f', where {wanted} is missing' if wanted else ''}.", EXAMPLE)

    def parse(self) -> Node:
        node = self._or()
        if self.tokens[self.place][0] != "end":
            raise self._wrong(self.tokens[self.place][2])
        return node

    def _take(self, *wanted: str) -> str:
        """The next token if it is one of these signs or keywords, else nothing."""
        kind, text, _ = self.tokens[self.place]
        if kind in ("sign", "name") and text in wanted:
            self.place += 1
            return text
        return ""

    def _or(self) -> Node:
        nodes = [self._and()]
        while self._take("or"):
            nodes.append(self._and())
        return nodes[0] if len(nodes) == 1 else lambda row: any(node(row) for node in nodes)

    def _and(self) -> Node:
        nodes = [self._not()]
        while self._take("and"):
            nodes.append(self._not())
        return nodes[0] if len(nodes) == 1 else lambda row: all(node(row) for node in nodes)

    def _not(self) -> Node:
        if not self._take("not"):
            return self._comparison()
        self._enter()
        node = self._not()
        self.depth -= 1
        return lambda row: not node(row)

    def _enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ConfigError(f"{self.setting} is nested deeper than {MAX_DEPTH}.", EXAMPLE)

    def _comparison(self) -> Node:
        left = self._sum()
        negated = bool(self._take("not"))
        sign = self._take("in") if negated else self._take(*COMPARISONS, "in")
        if not sign:
            if negated:
                raise self._wrong(self.tokens[self.place][2], "'in'")
            return left
        right = self._sum()
        if negated:
            return lambda row: left(row) is not None and not _compare("in", left(row), right(row))
        return lambda row: _compare(sign, left(row), right(row))

    def _sum(self) -> Node:
        return self._chain(self._product, "+", "-")

    def _product(self) -> Node:
        return self._chain(self._value, "*", "/")

    def _chain(self, inner: Callable[[], Node], *signs: str) -> Node:
        node = inner()
        while sign := self._take(*signs):
            node = _binary(sign, node, inner())
        return node

    def _value(self) -> Node:
        kind, text, place = self.tokens[self.place]
        self.place += 1
        if kind == "number":
            number = float(text)
            return lambda row: number
        if kind == "text":
            return lambda row: text[1:-1]
        if kind == "name" and text not in KEYWORDS:
            self.names.add(text)
            return lambda row: row.get(text)
        if kind == "sign" and text in ("-", "(", "["):
            self._enter()
            node = self._nested(text)
            self.depth -= 1
            return node
        raise self._wrong(place, "a value")

    def _nested(self, sign: str) -> Node:
        if sign == "-":
            return _binary("-", lambda row: 0, self._value())
        if sign == "(":
            node = self._or()
            self._expect(")")
            return node
        nodes = [self._value()]
        while self._take(","):
            nodes.append(self._value())
        self._expect("]")
        return lambda row: [node(row) for node in nodes]

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            raise self._wrong(self.tokens[self.place][2], repr(sign))


def _binary(sign: str, left: Node, right: Node) -> Node:
    return lambda row: _calculate(sign, left(row), right(row))

"""Name -> implementation tables with "did you mean"."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from open_imagen.errors import UnknownName

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """A read-only table that modules fill with a decorator.

    >>> SAMPLERS = Registry("sampler")
    >>> @SAMPLERS.register("ddim")
    ... def ddim(): ...
    >>> sorted(SAMPLERS)
    ['ddim']
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Register an entry under a name, as a decorator.

        Raises:
            RuntimeError: the name is taken.
        """

        def add(entry: T) -> T:
            if name in self._entries:
                raise RuntimeError(f"two implementations of {self.kind} {name!r}")
            self._entries[name] = entry
            return entry

        return add

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise UnknownName(self.kind, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

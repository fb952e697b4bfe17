"""How a measurement that takes long tells how far it is."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with what is counted, how many are done, and how many there are."""

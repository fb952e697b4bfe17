"""What a server serves, and within which limits."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from PIL import Image

from open_imagen.cascade.pipeline import Cascade
from open_imagen.server.auth import Keys
from open_imagen.server.errors import Refusal
from open_imagen.server.gallery import Gallery
from open_imagen.server.middleware import Counters
from open_imagen.server.worker import Worker

Filter = Callable[[str, Image.Image | None], str | None]
"""(prompt, picture or None before it is made) -> why it is not to be shown, or None."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """What a server serves, and within which limits."""

    cascades: Mapping[str, Cascade]
    worker: Worker
    gallery: Gallery
    counters: Counters
    keys: Keys | None = None
    """None: anyone may ask."""
    deadline: float = 600.0
    """Seconds from asking to the finished picture."""
    most_pixels: int = 1024 * 1024
    """Of one picture."""
    body_limit: int = 32 * 1024 * 1024
    """Bytes of a request."""
    origins: tuple[str, ...] = ()
    """Other sites whose pages may ask (CORS)."""
    log_prompts: bool = False
    filter: Filter | None = None
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server stops: no new work."""

    @property
    def first(self) -> str:
        """The model that is meant when none is named."""
        return next(iter(self.cascades))

    def cascade(self, name: str | None) -> tuple[str, Cascade]:
        """A model by name, the first without one.

        Raises:
            Refusal: there is no such model.
        """
        name = name or self.first
        if name not in self.cascades:
            known = ", ".join(self.cascades)
            raise Refusal(
                404, f"The model {name[:80]!r} does not exist; there are: {known}.", "model",
                "model_not_found",
            )  # fmt: skip
        return name, self.cascades[name]

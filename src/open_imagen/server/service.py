"""What a server serves, and within which limits."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from PIL import Image

from open_imagen.cascade.cascade import Cascade
from open_imagen.errors import ConfigError
from open_imagen.server.adapters import AdapterPool
from open_imagen.server.auth import Keys
from open_imagen.server.errors import RequestError
from open_imagen.server.gallery import Gallery
from open_imagen.server.limits import ImagesPerHour, PixelBudget
from open_imagen.server.middleware import Counters
from open_imagen.server.worker import Worker

Filter = Callable[[str, Image.Image | None], str | None]
"""(prompt, image or None before it is made) -> why it is refused, or None."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """What a server serves, and within which limits."""

    cascades: Mapping[str, Cascade]
    worker: Worker
    gallery: Gallery
    counters: Counters
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other names of models, such as those that clients send by default."""
    keys: Keys | None = None
    """None: anyone may send requests."""
    rate: ImagesPerHour = field(default_factory=ImagesPerHour)
    max_queued: int | None = None
    """Images of one client that may wait or be drawn; None: as the queue's size allows."""
    deadline: float = 600.0
    """Seconds from the request to the finished image."""
    max_pixels: int = 2 * 1024 * 1024
    """Of one image."""
    body_limit: int = 32 * 1024 * 1024
    """Bytes of a request that holds an image."""
    adapters: AdapterPool = field(default_factory=AdapterPool)
    """Adapters that requests may name."""
    upload_budget: PixelBudget = field(default_factory=lambda: PixelBudget(64 * 1024 * 1024))
    """Of images that clients sent, while they are worked on."""
    allowed_hosts: tuple[str, ...] | None = ()
    """See GuardConfig."""
    origins: tuple[str, ...] = ()
    """Other sites whose pages may send requests (CORS)."""
    root_path: str = ""
    """The path under which a proxy shows the server."""
    log_prompts: bool = False
    filter: Filter | None = None
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server stops: no new work."""
    pending: set[object] = field(default_factory=set)
    """Requests for images that are not answered yet."""

    def __post_init__(self) -> None:
        self.adapters.check(self.cascades.values())
        for alias, model in self.aliases.items():
            if model not in self.cascades:
                raise ConfigError(
                    f"--alias {alias}={model}: there is no model {model!r}.",
                    f"There are: {', '.join(self.cascades)}.",
                )
            if alias in self.cascades:
                raise ConfigError(f"--alias {alias}={model}: {alias!r} is a model's own name.")

    @property
    def busy(self) -> bool:
        """Whether images are drawn, or their answers are on their way."""
        return bool(self.pending) or not self.worker.idle

    @property
    def default_model(self) -> str:
        """The model of requests that name none."""
        return next(iter(self.cascades))

    def cascade(self, name: str | None) -> tuple[str, Cascade]:
        """A model by its name or an alias; the first without a name.

        Raises:
            RequestError: there is no such model.
        """
        name = name or self.default_model
        name = self.aliases.get(name, name)
        if name not in self.cascades:
            known = ", ".join([*self.cascades, *self.aliases])
            raise RequestError(
                404, f"The model {name[:80]!r} does not exist; there are: {known}.", "model",
                "model_not_found",
            )  # fmt: skip
        return name, self.cascades[name]

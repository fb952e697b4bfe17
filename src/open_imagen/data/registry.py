"""The table of data sources: kind -> (config, class)."""

from typing import Any

from open_imagen.config import parse
from open_imagen.errors import ConfigError
from open_imagen.registry import Registry

SOURCES: Registry[tuple[type[Any], type[Any]]] = Registry("kind of data")


def open_source(settings: dict[str, Any], device: str = "cpu") -> Any:
    """The data source that these settings describe; ``kind`` chooses it.

    Raises:
        UnknownName, ConfigError: settings that are wrong.
        DataError: the data are not there, or not as described.
    """
    if not settings.get("kind"):
        raise ConfigError(
            "data.kind is missing: it says where images and captions come from.",
            f"Choose one of: {', '.join(SOURCES)}.",
        )
    config_class, source_class = SOURCES[settings["kind"]]
    return source_class(parse(config_class, settings, "data."), device)

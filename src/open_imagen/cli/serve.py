"""imagen serve: images over HTTP, and the studio page."""

import contextlib
import importlib
import logging
import re
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from open_imagen.cli.generate import Device, Fast, Precision
from open_imagen.config import DEFAULT_MODEL
from open_imagen.errors import ConfigError, MissingDependency, install_hint

if TYPE_CHECKING:
    from open_imagen.cascade.cascade import Cascade
    from open_imagen.server.service import Filter


def serve(
    models: list[str] = typer.Option(
        [DEFAULT_MODEL],
        "--model",
        "-m",
        help="A shipped model, a folder, or hf:org/name; may repeat.",
    ),
    aliases: list[str] = typer.Option(
        [], "--alias", metavar="A=MODEL", help="Another name of a model; may repeat."
    ),
    adapters: list[str] = typer.Option(
        [], "--adapter", metavar="NAME=DIR", help="An adapter that requests may name; may repeat."
    ),
    host: str = typer.Option("127.0.0.1", "--host", help="Address to listen on."),
    port: int = typer.Option(8000, "--port", help="Port to listen on; 0 for a free one."),
    allow_hosts: list[str] = typer.Option(
        [], "--allow-host", metavar="NAME", help="A name of this server; may repeat."
    ),
    root_path: str = typer.Option(
        "", "--root-path", metavar="PATH", help="The path under which a proxy shows the server."
    ),
    proxies: list[str] = typer.Option(
        [], "--proxy", metavar="ADDRESS", help="Believe X-Forwarded-For of this proxy; may repeat."
    ),
    key_file: Path = typer.Option(
        None, "--api-key-file", metavar="F", help="API keys, one a line, perhaps NAME:KEY."
    ),
    gallery: Path = typer.Option(
        None, "--gallery", metavar="DIR", help="Keep images there; without it, until the end."
    ),
    keep: int = typer.Option(
        10_000, "--keep", help="Images kept of those made here; the oldest go first."
    ),
    batch_size: int = typer.Option(8, "--batch-size", help="Images drawn together at most."),
    queue_size: int = typer.Option(64, "--queue", help="Images waiting at most; then 429."),
    max_queued: int = typer.Option(
        None, "--max-queued", metavar="N", help="Images waiting of one client at most."
    ),
    images_per_hour: int = typer.Option(
        None, "--images-per-hour", metavar="N", help="Of one client; without it, any number."
    ),
    deadline: float = typer.Option(600, "--deadline", help="Seconds until a request is given up."),
    grace: float = typer.Option(
        120, "--grace", help="Seconds after SIGTERM to finish what is running."
    ),
    max_pixels: int = typer.Option(2 * 1024 * 1024, "--max-pixels", help="Of one image."),
    max_connections: int = typer.Option(512, "--max-connections", help="Open at once at most."),
    origins: list[str] = typer.Option(
        [], "--cors", metavar="ORIGIN", help="Let pages of this site send requests; may repeat."
    ),
    log_prompts: bool = typer.Option(False, "--log-prompts", help="Write prompts into the log."),
    content_filter: str = typer.Option(
        None, "--filter", metavar="MODULE:FUNCTION", help="(prompt, image or None) -> why not."
    ),
    device: str = Device,
    fast: bool = Fast,
    precision: str = Precision,
) -> None:
    """Serve the OpenAI Images API and the studio page.

    SIGTERM and Ctrl+C finish what is running and then end.
    """
    try:
        from open_imagen.server.api import make_app
        from open_imagen.server.connections import ConnectionLimits
        from open_imagen.server.run import serve as run
        from open_imagen.server.service import Service
    except ImportError as error:
        raise MissingDependency(
            f"Serving needs a web server ({error}).", install_hint("serve")
        ) from error
    from open_imagen.server.adapters import AdapterPool
    from open_imagen.server.auth import read_keys
    from open_imagen.server.gallery import Gallery
    from open_imagen.server.guard import LOOPBACK, allowed_hosts
    from open_imagen.server.limits import ImagesPerHour
    from open_imagen.server.middleware import Counters
    from open_imagen.server.sockets import listen
    from open_imagen.server.worker import Worker

    if deadline <= 0 or grace < 0 or max_pixels < 64 * 64:
        raise ConfigError(
            "--deadline must be above 0, --grace at least 0, --max-pixels at least 4096."
        )
    counts = (keep, batch_size, queue_size, max_connections, max_queued, images_per_hour)
    if any(count is not None and count < 1 for count in counts):
        raise ConfigError(
            "--keep, --batch-size and --queue at least 1, as well as --max-queued, "
            "--images-per-hour and --max-connections."
        )
    root_path = check_root_path(root_path)
    known_as = parse_aliases(aliases)
    pool = AdapterPool(parse_adapters(adapters))
    keys = read_keys(key_file) if key_file is not None else None
    chosen = load_filter(content_filter) if content_filter else None
    if keys is None and host not in LOOPBACK:
        print(f"Warning: anyone who reaches {host} may use this server.", file=sys.stderr)
    set_up_logging()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listen(host, port))
        if gallery is None:
            temporary = tempfile.TemporaryDirectory(prefix="imagen-gallery-")
            gallery = Path(stack.enter_context(temporary))
        opened = stack.enter_context(contextlib.closing(Gallery(gallery, keep)))
        cascades = load_models(models, device, fast, precision or "fp32")
        counters = Counters()
        service = Service(
            cascades=cascades,
            aliases=known_as,
            adapters=pool,
            gallery=opened,
            worker=Worker(cascades, batch_size, queue_size, counters),
            counters=counters,
            keys=keys,
            rate=ImagesPerHour(images_per_hour),
            max_queued=max_queued,
            deadline=deadline,
            max_pixels=max_pixels,
            allowed_hosts=allowed_hosts(host, keys is not None, tuple(allow_hosts)),
            origins=tuple(origins),
            root_path=root_path,
            log_prompts=log_prompts,
            filter=chosen,
        )
        if keys is not None:
            logging.getLogger("open_imagen.server").info("keys read", extra={"of": keys.names})
        print(
            f"Studio at {address_of(listener)}{root_path}/  API at /v1, description at /docs",
            flush=True,
        )
        limits = ConnectionLimits(total=max_connections)
        run(make_app(service), service, listener, grace, limits, proxies)


def address_of(listener: socket.socket) -> str:
    """Where a browser on this machine finds a server."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def set_up_logging() -> None:
    """Log lines of JSON on stderr, without letting one message fill the disk."""
    from open_imagen.server.logs import JsonLines, LimitRepeats

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    handler.addFilter(LimitRepeats())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("open_imagen").setLevel(logging.INFO)


def load_models(models: list[str], device: str, fast: bool, precision: str) -> "dict[str, Cascade]":
    """Cascades by the names that clients see, which never hold a path of this machine."""
    from open_imagen.cascade.io import load

    cascades: dict[str, Cascade] = {}
    for model in models:
        cascade = load(model, device=device, fast=fast, dtype=precision)
        name, number = cascade.name, 2
        while name in cascades:
            name, number = f"{cascade.name}-{number}", number + 1
        cascades[name] = cascade
        cascade.text(["warm"])  # the first caller shall not wait for the text encoder
    return cascades


def parse_aliases(texts: list[str]) -> dict[str, str]:
    """Aliases from A=MODEL.

    Raises:
        ConfigError: one is not of this form, or is given twice.
    """
    aliases: dict[str, str] = {}
    for text in texts:
        alias, equals, model = text.partition("=")
        if not (alias and equals and model) or alias in aliases:
            raise ConfigError(
                f"--alias {text} is not ALIAS=MODEL, or the alias is given twice.",
                "Write, for example, --alias gpt-image-1=scenes.",
            )
        aliases[alias] = model
    return aliases


def parse_adapters(texts: list[str]) -> dict[str, Path]:
    """Adapters from NAME=DIR.

    Raises:
        ConfigError: one is not of this form, or is given twice.
    """
    adapters: dict[str, Path] = {}
    for text in texts:
        name, _, folder = text.partition("=")
        if not re.fullmatch(r"[\w.-]{1,80}", name) or not folder or name in adapters:
            raise ConfigError(
                f"--adapter {text} is not NAME=DIR, or the name is given twice.",
                "Write, for example, --adapter ink=runs/ink/adapter.",
            )
        adapters[name] = Path(folder)
    return adapters


def check_root_path(path: str) -> str:
    """A path as proxies put it before ours: "" or "/imagen".

    Raises:
        ConfigError: it is not one.
    """
    path = path.rstrip("/")
    if path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path):
        raise ConfigError(f"--root-path {path} is no path.", "Write it as in --root-path /imagen.")
    return path


def load_filter(text: str) -> "Filter":
    """The content filter "module:function".

    Raises:
        ConfigError: there is no such function.
    """
    module, _, name = text.partition(":")
    try:
        found: Filter = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"--filter {text} cannot be loaded: {error}.", "Write --filter MODULE:FUNCTION."
        ) from error
    return found

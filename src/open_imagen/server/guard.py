"""What a request has to pass before an app sees it; the same for both servers.

In this order, and before any of the body is read: the host that it names (DNS rebinding), the site
that it comes from (requests that other pages send), the key. Then the body is read, within a size
that the route sets and within a time, and handed to the app whole.
"""

import asyncio
import ipaddress
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import Response

from open_imagen.server.auth import ANYONE, Client, Keys
from open_imagen.server.errors import RequestError
from open_imagen.server.forms import is_form
from open_imagen.server.middleware import App, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
KIB, MIB = 1024, 1024 * 1024
LARGE = 2 * MIB
"""From this size on, bodies wait for a part of the memory that all share."""
MAX_JSON_VALUES = 20_000
"""Commas and brackets in a body of JSON: parsing takes time and memory for each."""


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """What is let in."""

    allowed_hosts: tuple[str, ...] | None = ()
    """Names for which the server may be asked, beside localhost and IP addresses; None: any."""
    origins: tuple[str, ...] = ()
    """Other sites whose pages may send requests (CORS)."""
    keys: Keys | None = None
    """None: anyone may send requests."""
    key_prefix: str = "/v1/"
    """Paths that need a key, where there are keys."""
    open_prefix: str = "/v1/images/files/"
    """Paths among them that need none, because their names are secret."""
    body_limits: Mapping[str, int] = field(default_factory=dict)
    """Bytes, by path."""
    body_limit: int = 64 * KIB
    """Bytes of all others."""
    body_memory: int = 160 * MIB
    """Bytes of all large bodies together."""
    idle_seconds: float = 15.0
    """How long a body may stand still."""
    bytes_per_second: int = 16 * KIB
    """How fast a body has to come after that time, on average."""
    drain_seconds: float = 5.0
    """How long the rest of a refused body is read and thrown away, so that the client reads why."""


def allowed_hosts(host: str, keys: bool, allowed: tuple[str, ...]) -> tuple[str, ...] | None:
    """The names that a server may be asked for: None, any, only if it is public and has keys.

    Args:
        host: the address that it listens on.
        keys: whether it asks for keys.
        allowed: what the user allows.
    """
    public_with_keys = host not in LOOPBACK and keys
    return None if public_with_keys and not allowed else tuple(one.lower() for one in allowed)


class Guard:
    """ASGI middleware that lets in what the configuration allows."""

    def __init__(
        self,
        app: App,
        config: GuardConfig,
        reply: Callable[[RequestError], Response] = RequestError.reply,
    ) -> None:
        """Wrap an app.

        Args:
            reply: the app's form of an error.
        """
        self.app, self.config, self.reply = app, config, reply
        self._memory = _Memory(config.body_memory)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI)."""
        if scope["type"] != "http":  # there are no web sockets
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1")
                   for name, value in scope["headers"]}  # fmt: skip
        path, memory = _route_path(scope), _Reservation(self._memory)
        try:
            try:
                self._check_host(headers)
                self._check_site(scope["method"], headers)
                scope.setdefault("state", {})["client"] = self._client(scope, path, headers)
                limit = self.config.body_limits.get(path, self.config.body_limit)
                await memory.take(self._check_size(headers, limit), self.config.idle_seconds)
                body = await self._read(receive, limit, _is_form(scope))
            except RequestError as error:
                await self._refuse(error, headers, scope, receive, send)
                return
            if body is not None:
                await self._pass_on(scope, _replay(body, receive), send)
        finally:
            await memory.give()

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app; HEAD as GET, of which the server sends the headers only."""
        if scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        as_get = {**scope, "method": "GET"}
        try:
            await self.app(as_get, receive, send)
        finally:
            if "route" in as_get:
                scope["route"] = as_get["route"]

    def _check_host(self, headers: Mapping[str, str]) -> None:
        allowed = self.config.allowed_hosts
        if allowed is None:
            return
        name = _host_name(headers.get("host", ""))
        if not (_is_address(name) or _is_localhost(name) or name in allowed):
            raise RequestError(
                403,
                f"This server is not asked for as {name[:100]!r}. If that is its name, start it "
                f"with --allow-host {name[:100]}.",
                code="host_not_allowed",
            )

    def _check_site(self, method: str, headers: Mapping[str, str]) -> None:
        """Refuse what pages of other sites send; browsers say where a request comes from."""
        if method in ("GET", "HEAD", "OPTIONS"):
            return
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is not None and (origin in self.config.origins or "*" in self.config.origins):
            return
        if site is not None:
            same = site in ("same-origin", "none")
        else:
            with suppress(ValueError):
                same = origin is None or urlsplit(origin).netloc == headers.get("host")
                if same:
                    return
            same = False
        if not same:
            raise RequestError(
                403, "Pages of other sites may not send requests; see --cors.",
                code="origin_not_allowed",
            )  # fmt: skip

    def _client(self, scope: Scope, path: str, headers: Mapping[str, str]) -> Client | None:
        """Who sends the request; None where that does not matter.

        Raises:
            RequestError: a key is needed, and there is none or a wrong one.
        """
        keys, config = self.config.keys, self.config
        preflight = scope["method"] == "OPTIONS" and "access-control-request-method" in headers
        needed = path.startswith(config.key_prefix) and not path.startswith(config.open_prefix)
        if keys is None:
            return Client(ANYONE, ANYONE, _network(scope))
        kind, _, key = headers.get("authorization", "").partition(" ")
        client = keys.client(key.strip()) if kind.lower() == "bearer" else None
        if client is None and needed and not preflight:
            message = "Incorrect API key provided." if key else "No API key was provided."
            raise RequestError(401, message, code="invalid_api_key")
        return client

    def _check_size(self, headers: Mapping[str, str], limit: int) -> int:
        """The size of a body by its header; of one in chunks, the largest that is allowed."""
        length = headers.get("content-length", "")
        if not length.isdigit():
            return limit if "transfer-encoding" in headers else 0
        if len(length) > 15 or int(length) > limit:
            raise _too_large(limit)
        return int(length)

    async def _read(self, receive: Receive, limit: int, form: bool) -> bytes | None:
        """The whole body; None if the client has gone.

        Args:
            form: it is no JSON, whatever bytes it has.

        Raises:
            RequestError: it is too large, too slow, or holds too many values.
        """
        config, body, begun = self.config, bytearray(), time.monotonic()
        while True:
            late = begun + config.idle_seconds + len(body) / config.bytes_per_second
            patience = min(config.idle_seconds, late - time.monotonic())
            try:
                message = await asyncio.wait_for(receive(), max(0.0, patience))
            except TimeoutError:
                raise RequestError(
                    408, "The request's body did not arrive in time.", code="timeout"
                ) from None
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > limit:
                raise _too_large(limit)
            if not message.get("more_body", False):
                break
        if not form and sum(map(body.count, (b",", b"[", b"{"))) > MAX_JSON_VALUES:
            raise RequestError(
                400, f"The request has more than {MAX_JSON_VALUES:,} values.", code="invalid_value"
            )
        return bytes(body)

    async def _refuse(
        self,
        error: RequestError,
        headers: Mapping[str, str],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Answer with an error and close the connection.

        What the client is still sending is read for a while and thrown away: a connection that is
        closed with unread bytes is reset, and the client would not see the answer.
        """
        response = self.reply(error)
        body = bytes(response.body)
        response.headers["connection"] = "close"
        start = {"type": "http.response.start", "status": response.status_code,
                 "headers": response.raw_headers}  # fmt: skip
        await send(start)
        await send({"type": "http.response.body", "body": body, "more_body": True})
        if "expect" not in headers and error.status != 408:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._drain(receive), self.config.drain_seconds)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _drain(self, receive: Receive) -> None:
        left = max([self.config.body_limit, *self.config.body_limits.values()])
        while left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                return


class _Memory:
    """Bytes for large bodies, shared by all requests."""

    def __init__(self, size: int) -> None:
        self.free = size
        self.changed = asyncio.Condition()


class _Reservation:
    """The bytes that one request holds of them."""

    def __init__(self, memory: _Memory) -> None:
        self._memory, self._size = memory, 0

    async def take(self, size: int, seconds: float) -> None:
        """Wait for so many bytes; small bodies need none.

        Raises:
            RequestError: they did not become free within some seconds.
        """
        if size < LARGE:
            return
        memory = self._memory
        async with memory.changed:
            try:
                await asyncio.wait_for(
                    memory.changed.wait_for(lambda: memory.free >= size), seconds
                )
            except TimeoutError:
                raise RequestError(
                    503, "The server is reading too many large requests.", kind="server_error",
                    retry_after=10,
                ) from None  # fmt: skip
            memory.free -= size
            self._size = size

    async def give(self) -> None:
        """Give them back."""
        if self._size:
            async with self._memory.changed:
                self._memory.free += self._size
                self._memory.changed.notify_all()


def _is_form(scope: Scope) -> bool:
    """Whether a body is a form with files, by each of its content types: apps take any of them."""
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    return bool(kinds) and all(is_form(kind.decode("latin-1")) for kind in kinds)


def _too_large(limit: int) -> RequestError:
    return RequestError(
        413, f"The request has more than {limit:,} bytes.", code="request_too_large"
    )


def _replay(body: bytes, receive: Receive) -> Receive:
    """``receive`` of a request whose body has been read."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again


def _route_path(scope: Mapping[str, Any]) -> str:
    """The path of a request without the prefix of a proxy."""
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def _host_name(header: str) -> str:
    """The name in a Host header, without its port."""
    name = header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].rstrip(".")


def _is_localhost(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")


def _is_address(name: str) -> bool:
    with suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return False


def _network(scope: Mapping[str, Any]) -> str:
    """The address of a client; of IPv6 the network, in which one client has many addresses."""
    address = scope["client"][0] if scope.get("client") else ANYONE
    with suppress(ValueError):
        parsed = ipaddress.ip_address(address)
        if parsed.version == 6:
            return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(address)

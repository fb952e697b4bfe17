"""Ranges of bytes of files at URLs: tried again when a network fails, resumed where a body broke.

http and https are read with Python's own library; s3, gs, hf and others through fsspec.
"""

import base64
import email.utils
import http.client
import random
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from open_imagen.data.images import SkippedExample
from open_imagen.errors import DataError
from open_imagen.version import __version__

PAUSE = 0.5
"""Seconds before the second try; each further pause is twice as long."""
LONGEST_PAUSE = 30.0
SLOWEST = 1 << 16
"""Bytes a second below which a request is given up and resumed by another one."""
GRACE = 10.0
"""Seconds after which the rate of a request is looked at."""
PIECE = 1 << 18
PASSING = {408, 421, 425, 429}
"""Answers of HTTP below 500 that another try may not get."""


class PassingError(Exception):
    """A failure that another try may not meet."""

    def __init__(self, message: str, pause: float = 0.0) -> None:
        super().__init__(message)
        self.pause = pause
        """Seconds that the server asks to wait."""


class NoRanges(Exception):
    """The server gives whole files alone."""


class FileChanged(DataError):
    """A file is another one than before."""


@dataclass(frozen=True)
class FileState:
    """What a server says of a file."""

    size: int
    version: str = ""
    """An ETag, or what else changes when the file does."""


class Transport(Protocol):
    """One way to read a URL; a call is one try."""

    def state(self) -> FileState:
        """Size and version of the file now."""

    def expect(self, state: FileState) -> None:
        """What the file was when it was read before; a change of it is then an error."""
        ...

    def stream(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from ``start`` to ``end``, as they come."""
        ...

    def whole(self) -> Iterator[bytes]:
        """All bytes, for servers without ranges."""
        ...


def shown(url: str) -> str:
    """A URL as messages name it: passwords and signatures are left out.

    >>> shown("https://me:secret@host/a.tar?Signature=abc")
    'https://host/a.tar?...'
    """
    parts = urllib.parse.urlsplit(url)
    netloc = parts.netloc.rpartition("@")[2]
    query = "..." if parts.query else ""
    return urllib.parse.urlunsplit((parts.scheme, netloc, parts.path, query, ""))


def transport_of(url: str, timeout: float) -> Transport:
    """The transport for a URL, by its scheme.

    Raises:
        DataError: no library here reads such a URL.
    """
    scheme = urllib.parse.urlsplit(url).scheme.lower()
    return Http(url, timeout) if scheme in ("http", "https") else Fsspec(url)


class Remote:
    """A file at a URL. Every failure that may pass is tried again, with growing pauses."""

    def __init__(self, url: str, tries: int = 10, timeout: float = 30.0) -> None:
        """Describe a remote file; nothing is read yet.

        Args:
            tries: tries in a row without any progress before the file is given up.
            timeout: seconds without a byte before a try counts as failed.
        """
        self.url, self.tries = url, tries
        self.transport = transport_of(url, timeout)
        self._state: FileState | None = None

    def state(self) -> FileState:
        """Size and version; asked for once.

        Raises:
            DataError: the server cannot be reached, or has no such file.
            SkippedExample: there is no such file.
        """
        if self._state is None:
            self._state = self.persist(lambda _: self.transport.state())
        return self._state

    def expect(self, state: FileState) -> None:
        """What the file was when it was read before."""
        self._state = state
        self.transport.expect(state)

    def read(self, start: int, end: int) -> bytes:
        """The bytes from ``start`` to ``end``.

        Raises:
            SkippedExample: there is no such file any more.
            DataError: the server cannot be reached, or refuses.
            NoRanges: the server gives whole files alone.
        """
        received = bytearray()

        def once(tried: int) -> bytes:
            before, begun = len(received), time.monotonic()
            for piece in self.transport.stream(start + before, end):
                received.extend(piece)
                slow = len(received) - before < SLOWEST * (time.monotonic() - begun - GRACE)
                if slow and len(received) < end - start:
                    raise PassingError(f"less than {SLOWEST // 1024} KiB/s came")
            if len(received) != end - start:
                raise PassingError(f"{len(received):,} of {end - start:,} bytes came")
            return bytes(received)

        return self.persist(once, lambda: len(received))  # type: ignore[no-any-return]

    def whole(self) -> Iterator[bytes]:
        """All bytes; a broken body cannot be resumed without ranges.

        Raises:
            PassingError: it broke off.
        """
        return self.transport.whole()

    def persist(self, attempt: Any, progress: Any = lambda: 0) -> Any:
        """Call until it succeeds; tries count anew whenever some bytes more have come."""
        failed, before = 0, 0
        while True:
            try:
                return attempt(failed)
            except PassingError as error:
                now = progress()
                failed = 1 if now - before >= PIECE else failed + 1
                before = now
                if failed >= self.tries:
                    raise DataError(
                        f"{shown(self.url)} cannot be read after {failed} tries: {error}.",
                        "Check the network and the server, then run the same command again; "
                        "data.tries sets how often is tried.",
                    ) from error
                pause = min(LONGEST_PAUSE, PAUSE * 2 ** min(failed - 1, 20))
                time.sleep(max(min(error.pause, 2 * LONGEST_PAUSE), pause * random.uniform(0.5, 1)))


class Http:
    """A file of a web server."""

    def __init__(self, url: str, timeout: float) -> None:
        parts = urllib.parse.urlsplit(url)
        login, at, host = parts.netloc.rpartition("@")
        path = urllib.parse.quote(parts.path, safe="/%:=&~+!$,;'@()*[]")
        self.name = shown(url)
        self.url = urllib.parse.urlunsplit((parts.scheme, host, path, parts.query, ""))
        self.timeout = timeout
        # Compressed bodies have no ranges.
        self.headers = {
            "Accept-Encoding": "identity",
            "User-Agent": f"open-imagen/{__version__}",
        }
        if at:
            token = base64.b64encode(urllib.parse.unquote(login).encode()).decode()
            self.headers["Authorization"] = f"Basic {token}"
        self.known: FileState | None = None
        self.has_ranges = True

    def state(self) -> FileState:
        """Size and version of the file now."""
        with self._open(0, 1) as answer:
            found = self._state_of(answer)
            self.has_ranges = answer.status == 206
        self.known = found
        return found

    def expect(self, state: FileState) -> None:
        """Take this state as the known one; see Transport."""
        self.known = state

    def stream(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from ``start`` to ``end``, piece by piece.

        Raises:
            NoRanges: the server does not serve ranges.
            FileChanged: the file is another one than before.
        """
        if not self.has_ranges:
            raise NoRanges
        with self._open(start, end) as answer:
            if answer.status != 206:
                raise NoRanges
            found = self._state_of(answer)
            first = int((answer.headers.get("Content-Range") or "bytes -1-")[6:].split("-")[0])
            if first != start:
                raise PassingError(f"bytes from {first} came where {start} were asked for")
            self.check_unchanged(found)
            left = end - start
            while left and (piece := self._piece(answer, min(PIECE, left))):
                left -= len(piece)
                yield piece

    def whole(self) -> Iterator[bytes]:
        """All bytes, piece by piece."""
        with self._open(0, None) as answer:
            while piece := self._piece(answer, PIECE):
                yield piece

    def check_unchanged(self, found: FileState) -> None:
        """Check that the file is the same as before.

        Raises:
            FileChanged: the file is another one than before.
        """
        if self.known is None:
            self.known = found
        if found != self.known:
            raise FileChanged(
                f"{self.name} has changed since it was first read: {found.size:,} bytes, version "
                f"{found.version or 'unknown'}, not {self.known.size:,}, "
                f"{self.known.version or 'unknown'}.",
                "Data must stay as they are while a run learns from them.",
            )

    def _piece(self, answer: Any, size: int) -> bytes:
        try:
            piece: bytes = answer.read1(size)
        except (OSError, http.client.HTTPException) as error:
            raise PassingError(f"the answer broke off ({error or type(error).__name__})") from error
        return piece

    def _open(self, start: int, end: int | None) -> Any:
        headers = dict(self.headers)
        if end is not None:
            headers["Range"] = f"bytes={start}-{end - 1}"
        try:
            request = urllib.request.Request(self.url, headers=headers)
            return urllib.request.urlopen(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            with error:
                return self._refused(error)
        except (ValueError, http.client.InvalidURL) as error:
            raise DataError(f"{self.name} is no URL that can be read: {error}.") from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or str(error) or type(error).__name__
            raise PassingError(str(reason)) from error

    def _refused(self, error: urllib.error.HTTPError) -> Any:
        status = f"{error.code} {error.reason}"
        if error.code in (404, 410):
            raise SkippedExample("missing file", f"{self.name}: {status}")
        if error.code in PASSING or error.code >= 500:
            raise PassingError(status, _retry_after(error.headers.get("Retry-After")))
        if error.code == 416:
            raise DataError(f"{self.name} is empty, or shorter than before ({status}).")
        raise DataError(
            f"{self.name} is refused by its server: {status}.",
            "Check the URL, and whether it needs a login or has expired.",
        )

    @staticmethod
    def _state_of(answer: Any) -> FileState:
        """Size and version, from the headers of an answer."""
        total = re.search(r"/(\d+)$", answer.headers.get("Content-Range") or "")
        length = answer.headers.get("Content-Length") or ""
        if total:
            size = int(total[1])
        elif answer.status == 200 and length.isdigit():
            size = int(length)
        else:
            size = -1
        # Mirrors of one file often have ETags of their own.
        version = answer.headers.get("Last-Modified") or answer.headers.get("ETag") or ""
        return FileState(size, version)


def _retry_after(value: str | None) -> float:
    """Seconds to wait, from a header that names seconds or a date."""
    if not value:
        return 0.0
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


class Fsspec:
    """A file of any store that fsspec reads."""

    def __init__(self, url: str) -> None:
        self.name = shown(url)
        try:
            import fsspec

            self.files, self.path = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError, OSError) as error:
            raise DataError(f"{self.name} cannot be read: {error}.") from error

    def state(self) -> FileState:
        """Size and version of the file now."""
        info = self._once(lambda: self.files.info(self.path))
        tags = (info.get(name) for name in ("ETag", "etag", "generation", "sha", "mtime"))
        version = next((str(tag) for tag in tags if tag), "")
        return FileState(int(info.get("size") or 0), version)

    def expect(self, state: FileState) -> None:
        """Do nothing: `state` is compared by the caller."""
        pass  # the stores have no cheap way to ask

    def stream(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from ``start`` to ``end``, in one piece."""
        # One request; fsspec gives no piece of it before its end.
        yield self._once(lambda: self.files.cat_file(self.path, start=start, end=end))

    def whole(self) -> Iterator[bytes]:
        """All bytes, in one piece."""
        yield self._once(lambda: self.files.cat_file(self.path))

    def _once(self, call: Any) -> Any:
        try:
            return call()
        except FileNotFoundError as error:
            raise SkippedExample("missing file", self.name) from error
        except (PermissionError, ImportError, NotImplementedError) as error:
            raise DataError(f"{self.name} cannot be read: {error}.") from error
        except Exception as error:  # of a network, whatever its library raises
            raise PassingError(str(error) or type(error).__name__) from error

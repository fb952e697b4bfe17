"""Pages for browsers: the studio, and the description of the API. Both work offline."""

import base64
import hashlib
import re
from html import escape
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from open_imagen.server.errors import RequestError

HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
MEDIA_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}


def static_text(name: str) -> str:
    """A file of ours."""
    return files("open_imagen").joinpath(f"server/static/{name}").read_text(encoding="utf-8")


def page(name: str, root_path: str = "") -> str:
    """A page of ours, whose addresses are relative to the path that a proxy puts before them."""
    base = f'<base href="{escape(root_path.rstrip("/"), quote=True)}/">'
    return static_text(name).replace("<head>", f"<head>\n{base}", 1)


def policy(text: str) -> str:
    """The Content-Security-Policy of a page: files of this server, and its own inline blocks."""

    def sources(tag: str) -> str:
        blocks = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digests = (hashlib.sha256(block.encode()).digest() for block in blocks)
        return " ".join(["'self'", *(f"'sha256-{base64.b64encode(d).decode()}'" for d in digests)])

    return (
        f"default-src 'none'; connect-src 'self'; script-src {sources('script')}; "
        f"style-src {sources('style')}; img-src 'self' data: blob:; base-uri 'self'; "
        "form-action 'none'; frame-ancestors 'none'"
    )


def page_headers(text: str) -> dict[str, str]:
    """Headers that every page is sent with."""
    return HEADERS | {"Content-Security-Policy": policy(text)}


def page_router(root_path: str) -> APIRouter:
    """Routes of the pages."""
    router = APIRouter(include_in_schema=False)
    pages = {name: page(f"{name}.html", root_path) for name in ("studio", "docs")}
    folder = files("open_imagen").joinpath("server/static/studio")
    parts = {one.name: static_text(f"studio/{one.name}") for one in folder.iterdir()
             if one.name.rpartition(".")[2] in MEDIA_TYPES}  # fmt: skip

    def show(name: str) -> HTMLResponse:
        headers = page_headers(pages[name]) | {"Cache-Control": "no-cache"}
        return HTMLResponse(pages[name], headers=headers)

    @router.get("/")
    async def studio() -> HTMLResponse:
        return show("studio")

    @router.get("/docs")
    async def docs() -> HTMLResponse:
        return show("docs")

    @router.get("/studio/{name}")
    async def part(name: str) -> Response:
        """A module or the style of the studio."""
        if name not in parts:
            raise RequestError(404, "There is no such file.", code="not_found")
        kind = MEDIA_TYPES[name.rpartition(".")[2]]
        headers = HEADERS | {"Cache-Control": "no-cache"}
        return Response(parts[name], media_type=kind, headers=headers)

    return router

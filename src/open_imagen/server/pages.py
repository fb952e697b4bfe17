"""Pages for browsers: the studio, and the description of the API. Both work offline."""

from html import escape
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; img-src 'self' data: blob:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def page(name: str, root_path: str = "") -> str:
    """A page of ours, whose addresses are relative to the path that a proxy puts before them."""
    text = files("open_imagen").joinpath(f"server/static/{name}").read_text(encoding="utf-8")
    base = f'<base href="{escape(root_path.rstrip("/"), quote=True)}/">'
    return text.replace("<head>", f"<head>\n{base}", 1)


def page_router(root_path: str) -> APIRouter:
    """Routes of the pages."""
    router = APIRouter(include_in_schema=False)
    pages = {name: page(f"{name}.html", root_path) for name in ("studio", "docs")}

    @router.get("/")
    async def studio() -> HTMLResponse:
        return HTMLResponse(pages["studio"], headers=PAGE_HEADERS)

    @router.get("/docs")
    async def docs() -> HTMLResponse:
        return HTMLResponse(pages["docs"], headers=PAGE_HEADERS)

    return router

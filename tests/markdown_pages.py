"""What tests of the documentation read of a Markdown page: fences, headings, links."""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*$")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Fence:
    """A block of code. ``not_run`` is why tests do not execute it, or empty."""

    language: str
    code: str
    not_run: str

    def commands(self) -> list[str]:
        """Commands of a shell fence, a line each: continued lines joined, no comments."""
        joined = re.sub(r" *\\\n\s*", " ", self.code)
        lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.split("\n"))
        return [line for line in lines if line]


def fences(text: str) -> list[Fence]:
    """All fenced blocks of a page."""
    found = []
    for match in FENCE.finditer(text):
        marked = NOT_RUN.search(text[: match.start()].rstrip())
        found.append(Fence(match[2], match[3], marked[1] if marked else ""))
    return found


def prose(text: str) -> str:
    """A page without its fenced blocks and code spans."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


def slug(heading: str) -> str:
    """The anchor that MkDocs gives to a heading."""
    plain = re.sub(r"[`*]", "", heading)
    plain = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def anchors(text: str) -> set[str]:
    """The anchors of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {slug(heading) for heading in headings}


def links(text: str) -> list[str]:
    """Targets of all links and images."""
    return LINK.findall(prose(text))

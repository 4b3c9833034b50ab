"""Check a built site: every link inside it leads somewhere, every public name has its place.

python tools/check_site.py site
"""

import html.parser
import pathlib
import sys
import urllib.parse

import docs_made


class Page(html.parser.HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, file: pathlib.Path):
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note what a tag points to, and what can be pointed to."""
        for name, value in attributes:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value and (tag, name) != ("link", "href"):
                self.links.add(value)


def problems(site: pathlib.Path) -> list[str]:
    """Return a line for every dead link and for every public name without an anchor."""
    pages = {file.resolve(): Page(file) for file in sorted(site.rglob("*.html"))}
    wrong = []
    for file, page in pages.items():
        for link in sorted(page.links):
            parts = urllib.parse.urlsplit(link)
            if file.name == "404.html" or parts.scheme or parts.netloc:
                continue
            path = urllib.parse.unquote(parts.path)
            target = (file.parent / path).resolve() if path else file
            target = target / "index.html" if target.is_dir() else target
            anchor = urllib.parse.unquote(parts.fragment)
            if not target.is_file():
                wrong.append(f"{file.relative_to(site.resolve())}: dead link {link}")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                wrong.append(f"{file.relative_to(site.resolve())}: no such place {link}")
    anchors = set().union(*(page.anchors for page in pages.values()))
    for name in docs_made.anchors():
        if name not in anchors:
            wrong.append(f"{name} has no place in the API")
    return wrong


if __name__ == "__main__":
    complaints = problems(pathlib.Path(sys.argv[1]))
    print("\n".join(complaints) or "every link leads somewhere, every public name has its place")
    sys.exit(bool(complaints))

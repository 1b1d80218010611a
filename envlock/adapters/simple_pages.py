"""Reading the pages of package indexes: PEP 691 and 700 (JSON), PEP 503, 592, 629 and 658 (HTML)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from packaging.utils import canonicalize_name

from envlock.ports import IndexFile

# JSON at best; plain HTML is what an index sends that knows none of this
ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.1, text/html;q=0.01"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_WHEEL_PARTS = (5, 6)  # name, version, perhaps a build tag, Python, ABI, platform
_normalized = lru_cache(maxsize=1000)(canonicalize_name)


class BadPage(ValueError):
    """The page is not one of a package index."""


def read_page(content: bytes, *, content_type: str, url: str, source: str, name: str) -> list[IndexFile]:
    """Return the files of a project's page; files that are neither wheel nor sdist of it are left out.

    ``url`` is where the page came from in the end: its links are relative to it. Raises ``BadPage``.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type.endswith("json"):
        found = _json(content, url)
    elif media_type.endswith("html"):
        found = _html(content.decode("utf-8", "replace"), url)
    else:
        raise BadPage(f"is {media_type or 'of no known type'} and not a page of a package index")
    return [IndexFile(source=source, **file) for file in found if project_of(file["filename"]) == name]


def project_of(filename: str) -> str | None:
    """Return the normalized name of the project that a file belongs to, or None where it is no distribution.

    By its form alone: pages have thousands of files, and whoever chooses one reads its name with care.
    """
    stem = filename.removesuffix(".whl")
    if stem != filename:
        parts = stem.split("-")
        return _normalized(parts[0]) if len(parts) in _WHEEL_PARTS else None
    for suffix in (".tar.gz", ".zip"):
        if filename.endswith(suffix):
            name, dash, _ = filename.removesuffix(suffix).rpartition("-")
            return _normalized(name) if dash else None
    return None


def _json(content: bytes, url: str) -> list[dict[str, Any]]:
    try:
        page = json.loads(content)
        version = str(page["meta"]["api-version"])
        if version.partition(".")[0] != "1":
            raise BadPage(f"has version {version} of the simple repository API, and 1 is known here")
        return [_json_file(file, url) for file in page["files"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, BadPage):
            raise
        raise BadPage("is not the JSON of a package index (PEP 691)") from error


def _json_file(file: Mapping[str, Any], url: str) -> dict[str, Any]:
    size = file.get("size")
    metadata = file.get("core-metadata", file.get("dist-info-metadata", file.get("data-dist-info-metadata")))
    return {
        "filename": str(file["filename"]),
        "url": link if (link := str(file["url"])).startswith("https://") else urljoin(url, link),  # joining is slow
        "sha256": _sha256((file.get("hashes") or {}).get("sha256")),
        "size": size if isinstance(size, int) else None,
        "requires_python": file.get("requires-python") or None,
        "yanked": bool(file.get("yanked")) or file.get("yanked") == "",
        "uploaded": file.get("upload-time") or None,
        "metadata_sha256": _sha256(metadata.get("sha256")) or ""
        if isinstance(metadata, dict) and metadata
        else ("" if metadata else None),
    }


def _html(text: str, url: str) -> list[dict[str, Any]]:
    parser = _Anchors()
    parser.feed(text)
    version = parser.api_version
    if version.partition(".")[0] != "1":
        raise BadPage(f"has version {version} of the simple repository API, and 1 is known here")
    base = urljoin(url, parser.base) if parser.base else url
    return [_html_file(attributes, base) for attributes in parser.anchors if attributes.get("href")]


def _html_file(attributes: Mapping[str, str], base: str) -> dict[str, Any]:
    link, fragment = urldefrag(urljoin(base, attributes["href"].strip()))
    algorithm, _, value = fragment.partition("&")[0].partition("=")
    metadata = attributes.get("data-core-metadata", attributes.get("data-dist-info-metadata"))
    return {
        "filename": unquote(urlsplit(link).path.rpartition("/")[2]),
        "url": link,
        "sha256": _sha256(value) if algorithm == "sha256" else None,
        "size": None,
        "requires_python": attributes.get("data-requires-python") or None,
        "yanked": "data-yanked" in attributes,
        "uploaded": None,
        "metadata_sha256": None
        if metadata is None or metadata == "false"
        else _sha256(metadata.removeprefix("sha256=")) or "",
    }


def _sha256(value: object) -> str | None:
    text = str(value or "").lower()
    return text if _SHA256.fullmatch(text) else None


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.anchors: list[dict[str, str]] = []
        self.base = ""
        self.api_version = "1.0"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "a":
            self.anchors.append(attributes)
        elif tag == "base" and not self.base:
            self.base = attributes.get("href", "")
        elif tag == "meta" and attributes.get("name") == "pypi:repository-version":
            self.api_version = attributes.get("content", "1.0")

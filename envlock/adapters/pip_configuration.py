"""The few settings that are taken from pip's own configuration: where the default index is and how to reach it.

Everything else that pip can be told there (find-links, extra-index-url, constraint, pre…) would change what a lock
says from one machine to the next, and is left alone. What a lock needs of that kind stands in the spec.

The order is pip's own ("Configuration files" in its documentation), later ones win: the global files, the user's
files, the environment's (``{sys.prefix}/pip.conf``), the file that PIP_CONFIG_FILE names, PIP_* variables. In a file,
``[install]`` wins over ``[global]``. Reading them here takes a millisecond; ``pip config list`` takes half a second.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from envlock.errors import InputError

_SECTIONS = ("global", "install")
_KEYS = ("index-url", "cert", "client-cert", "proxy", "timeout", "default-timeout", "trusted-host")
# Beside what pip itself reads, the bundle that a company's machines name for everything that is not a browser.
_CA_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_TIMEOUT = 15.0  # seconds; pip's own default


@dataclass(frozen=True, kw_only=True, slots=True)
class PipSettings:
    """How the default index is reached. ``index_url`` may hold credentials: it is never shown or written."""

    index_url: str
    ca_bundle: str | None = None  # path of a PEM file or folder; None: what requests brings along
    client_cert: str | None = None  # path
    proxy: str | None = None  # for all hosts; may hold credentials
    timeout: float = _TIMEOUT  # seconds
    trusted_hosts: tuple[str, ...] = ()  # host or host:port; plain HTTP and unknown certificates are accepted there

    def __repr__(self) -> str:
        return "PipSettings(…)"  # it may hold credentials, and a traceback would print them


def read_pip_settings(
    environ: Mapping[str, str], *, home: Path, prefix: Path, system: Path = Path("/etc")
) -> PipSettings:
    """Read pip's configuration as pip would for a user with this environment; raises ``InputError``.

    ``prefix`` is the Python environment's (``sys.prefix``), ``system`` where machine-wide configuration is.
    """
    found: dict[str, str] = {}
    for path in _files(environ, home=home, prefix=prefix, system=system):
        found |= _read(path)
    for key in _KEYS:
        if value := environ.get("PIP_" + key.replace("-", "_").upper()):
            found[key] = value
    bundle = found.get("cert") or next((environ[name] for name in _CA_BUNDLES if environ.get(name)), None)
    return PipSettings(
        index_url=found.get("index-url") or default_index_url(),
        ca_bundle=bundle,
        client_cert=found.get("client-cert"),
        proxy=found.get("proxy"),
        timeout=_seconds(found.get("timeout") or found.get("default-timeout")),
        trusted_hosts=tuple(found.get("trusted-host", "").split()),
    )


def default_index_url() -> str:
    """Return the index that pip uses when nothing is configured; it is pip's to know."""
    from pip._internal.models.index import PyPI  # noqa: PLC0415 - private, and slow to import for who has an index-url

    return str(PyPI.simple_url)


def _files(environ: Mapping[str, str], *, home: Path, prefix: Path, system: Path) -> Iterator[Path]:
    """Yield the files in the order in which later ones win (Unix; macOS keeps one more for the user)."""
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    config_home = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    for folder in reversed((environ.get("XDG_CONFIG_DIRS") or str(system / "xdg")).split(":")):
        yield Path(folder) / "pip" / "pip.conf"
    yield system / "pip.conf"
    yield home / ".pip" / "pip.conf"
    application_support = home / "Library" / "Application Support" / "pip"
    yield application_support / "pip.conf" if application_support.is_dir() else config_home / "pip" / "pip.conf"
    yield prefix / "pip.conf"
    if named:
        yield Path(named)


def _read(path: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        with path.open(encoding="utf-8") as file:
            parser.read_file(file)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except (configparser.Error, UnicodeDecodeError, OSError) as error:
        # without the error's own text: it quotes the line, and a password may be in it
        raise InputError(
            f"pip's configuration file {path} cannot be read ({type(error).__name__})",
            hint="'pip config debug' says where pip looks",
        ) from None
    found: dict[str, str] = {}
    for section in _SECTIONS:
        if parser.has_section(section):
            found |= {key.replace("_", "-"): value for key, value in parser.items(section)}
    return {key: value.strip() for key, value in found.items() if key in _KEYS and value.strip()}


def _seconds(text: str | None) -> float:
    try:
        seconds = float(text) if text else _TIMEOUT
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InputError(f"pip's timeout is {text!r}, and not a number of seconds", hint="see 'pip config list'")
    return seconds

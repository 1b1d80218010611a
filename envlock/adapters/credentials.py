"""User names and passwords for package indexes: from the URL, netrc or keyring, as pip finds them.

They are kept in memory, given only to the host that they belong to, and never part of a message.
"""

from __future__ import annotations

import json
import netrc
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from urllib.parse import quote, unquote, urlsplit, urlunsplit

_KEYRING_SECONDS = 60  # it may ask the user to unlock something
_PORTS = {"http": 80, "https": 443}

Login = tuple[str, str]
Origin = tuple[str, str, int]  # scheme, host, port: who may see a password


def origin_of(url: str) -> Origin:
    """Return who a URL talks to."""
    parts = urlsplit(url)
    return parts.scheme.lower(), (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme.lower(), 0)


def split_credentials(url: str) -> tuple[str, str | None, str | None]:
    """Return a URL without its user information (RFC 3986 §3.2.1), and the decoded user name and password in it."""
    parts = urlsplit(url)
    information, _, host = parts.netloc.rpartition("@")
    if not information:
        return url, None, None
    user, colon, password = information.partition(":")
    return urlunsplit(parts._replace(netloc=host)), unquote(user), unquote(password) if colon else None


@dataclass
class Credentials:
    """What is known by origin. ``environ`` says where netrc is and where keyring may be found."""

    environ: Mapping[str, str]
    home: Path
    _known: dict[Origin, Login] = field(default_factory=dict, repr=False)
    _users: dict[Origin, str] = field(default_factory=dict, repr=False)
    _services: dict[Origin, str] = field(default_factory=dict, repr=False)
    _asked: set[Origin] = field(default_factory=set, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def take(self, url: str) -> str:
        """Remember the credentials in a URL and return it without them."""
        bare, user, password = split_credentials(url)
        origin = origin_of(bare)
        self._services.setdefault(origin, bare)
        if user is not None:
            self._users[origin] = user
            if password is not None:
                self._known[origin] = (user, password)
        return bare

    def login(self, url: str) -> Login | None:
        """Return what to send unasked: from a URL, else from netrc."""
        origin = origin_of(url)
        with self._lock:
            if origin not in self._known and origin not in self._asked and (found := self._from_netrc(origin)):
                self._known[origin] = found
        known = self._known.get(origin)
        if known is None and (user := self._users.get(origin)):
            return user, ""  # a token may stand in the place of the name
        return known

    def refused(self, url: str) -> Login | None:
        """Return other credentials after a 401: from keyring, which is asked once for each origin."""
        origin = origin_of(url)
        with self._lock:
            if origin not in self._asked:
                self._asked.add(origin)
                if found := self._from_keyring(origin):
                    self._known[origin] = found
                    return found
            return None

    def secrets(self) -> tuple[str, ...]:
        """Return every password, as it is and as it stands in a URL, so that texts can be cleaned of them."""
        passwords = [password for _, password in self._known.values() if password]
        return tuple(dict.fromkeys([*passwords, *(quote(one, safe="") for one in passwords)]))

    def _from_netrc(self, origin: Origin) -> Login | None:
        names = [self.environ["NETRC"]] if self.environ.get("NETRC") else [".netrc", "_netrc"]
        for name in names:
            path = self.home / name  # an absolute NETRC stays what it is
            try:
                entry = netrc.netrc(path).authenticators(origin[1])
            except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
                continue
            if entry is not None:
                return entry[0] or entry[1] or "", entry[2] or ""
        return None

    def _from_keyring(self, origin: Origin) -> Login | None:
        program = shutil.which("keyring", path=self.environ.get("PATH", os.defpath))
        if program is None:
            return None
        scheme, host, port = origin
        netloc = host if port == _PORTS.get(scheme) else f"{host}:{port}"
        user = self._users.get(origin)
        for service in (self._services.get(origin, f"{scheme}://{netloc}/"), netloc):
            if user:
                password = self._ask([program, "get", service, user])
                if password is not None:
                    return user, password.removesuffix("\n")
            elif found := _login_in(self._ask([program, "--mode", "creds", "--output", "json", "get", service])):
                return found
        return None

    def _ask(self, argv: list[str]) -> str | None:
        try:
            done = subprocess.run(
                argv,
                env=dict(self.environ) | {"PYTHONIOENCODING": "utf-8"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_KEYRING_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.decode("utf-8", "replace") if done.returncode == 0 and done.stdout else None


def _login_in(answer: str | None) -> Login | None:
    try:
        found = json.loads(answer or "null")
    except ValueError:
        return None
    if isinstance(found, dict) and isinstance(found.get("password"), str):
        return str(found.get("username") or ""), found["password"]
    return None

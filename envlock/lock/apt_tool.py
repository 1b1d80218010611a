"""The base's own apt, run in a container of the base: its options, its commands, and what they print."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from envlock.formats.debian import is_version, paragraphs, version_key
from envlock.lock.apt_gateway import AptGateway
from envlock.ports import GATEWAY_URL, Completed, Container

FOLDER = "/tmp/envlock-apt"  # noqa: S108 - in a container that nobody else uses

_ENV = {"LC_ALL": "C", "LANGUAGE": "C", "DEBIAN_FRONTEND": "noninteractive", "APT_CONFIG": ""}
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_OPTIONS = {
    "Dir::Etc::sourcelist": "/dev/null",
    "Dir::Etc::sourceparts": f"{FOLDER}/sources",
    "Dir::Etc::preferencesparts": f"{FOLDER}/preferences",
    "Dir::State::lists": f"{FOLDER}/lists",
    "Dir::Cache": f"{FOLDER}/cache",
    "APT::Sandbox::User": "root",
    "APT::Snapshot": "",
    "APT::Get::AllowUnauthenticated": "false",
    "APT::Get::Always-Include-Phased-Updates": "true",  # else what an image gets hangs on its machine-id
    "APT::Update::Error-Mode": "any",
    "Acquire::AllowInsecureRepositories": "false",
    "Acquire::AllowWeakRepositories": "false",
    "Acquire::AllowDowngradeToInsecureRepositories": "false",
    "Acquire::Languages": "none",
    "Acquire::PDiffs": "false",
    # The host tries again; after a second try of its own, apt before 3.1.10 can wait for ever (LP: #2003851).
    "Acquire::Retries": "0",
    "Acquire::http::Timeout": "300",
    "Acquire::http::Proxy": "DIRECT",
    "Acquire::http::Proxy::127.0.0.1": "DIRECT",
    "Acquire::http::Proxy-Auto-Detect": "",
    "Acquire::http::ProxyAutoDetect": "",
    "Acquire::http::Pipeline-Depth": "0",
    "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
    "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled": "false",
    "Acquire::IndexTargets::deb::CNF::DefaultEnabled": "false",
}
_URI = re.compile(r"'(?P<uri>[!-&(-~]+)' (?P<file>[!-~]+)\.deb (?P<size>[0-9]+) (?:SHA256:(?P<sha256>[0-9a-f]{64}))?.*")
_MADISON = re.compile(r"\s*(\S+)\s+\|\s+(\S+)\s+\|.*")
_ADDRESS = re.compile(r" *\[IP: [^\]]*\]")  # the gateway's
_REMOVED = "The following packages will be REMOVED:"


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """One file that apt would fetch."""

    name: str
    version: str
    architecture: str
    address: str  # of its repository, at the gateway
    path: str  # below it
    size: int  # bytes
    sha256: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulation:
    """What apt would do to install something."""

    downloads: tuple[Download, ...]
    removed: tuple[str, ...]


class AptFailed(Exception):
    """apt ended with an error; ``lines`` are its own words, with real URIs."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


class AptTool:
    """apt in a container, with lists, cache and configuration of its own, so that the base's stay as they are."""

    def __init__(self, container: Container, gateway: AptGateway) -> None:
        self._container = container
        self._gateway = gateway

    def available(self) -> bool:
        """Return whether there is an apt at all."""
        return self._container.run(["apt-get", "--version"], env=_ENV).exit_code == 0

    def prepare(self, files: Mapping[str, bytes]) -> None:
        """Write configuration files, and make the folders that apt wants to find."""
        folders = [
            f"{FOLDER}/{name}" for name in ("sources", "preferences", "keys", "lists/partial", "cache/archives/partial")
        ]
        self._container.run(["mkdir", "-p", *folders])
        self._container.put(files)

    def update(self, on_line: Callable[[str], None]) -> None:
        """Fetch the indexes; raises ``AptFailed`` where one is missing, unsigned or not what its Release file says."""
        done = self._run(["apt-get", "update", "-q"], on_line=on_line)
        problems = _problems(done, self._gateway.readable)
        # Older versions of apt end well when only some indexes could be fetched
        if done.exit_code != 0 or any("Failed to fetch" in line for line in problems):
            raise AptFailed(problems or (f"apt-get update ended with exit code {done.exit_code}",))

    def simulate(self, packages: Sequence[str]) -> Simulation:
        """Ask what an installation of ``name`` and ``name=version`` would fetch; raises ``AptFailed``."""
        flags = [
            "--no-install-recommends",
            "--no-install-suggests",
            "--allow-downgrades",
            "--allow-change-held-packages",
        ]
        done = self._run(
            ["apt-get", "install", "-q", "-y", "--print-uris", *flags, *packages],
            options={"Acquire::ForceHash": "sha256"},
        )
        text = done.stdout.decode("utf-8", "replace")
        if done.exit_code != 0:
            raise AptFailed(_explanation(done, self._gateway.readable))
        return Simulation(
            downloads=tuple(_downloads(text.splitlines())),
            removed=_removed(text.splitlines()),
        )

    def versions(self, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Return the versions that the repositories have of each name, newest first; without those they lack."""
        done = self._run(["apt-cache", "madison", *names])
        found: dict[str, set[str]] = {}
        for line in done.stdout.decode("utf-8", "replace").splitlines():
            match = _MADISON.fullmatch(line)
            if match and is_version(match.group(2)):
                found.setdefault(match.group(1), set()).add(match.group(2))
        return {name: tuple(sorted(some, key=version_key, reverse=True)) for name, some in found.items()}

    def names(self) -> tuple[str, ...]:
        """Return the name of every package that is not just virtual."""
        done = self._run(["apt-cache", "pkgnames"])
        return tuple(sorted(done.stdout.decode("utf-8", "replace").split()))

    def providers(self, name: str) -> tuple[str, ...]:
        """Return the packages of the base's architecture that provide a virtual one."""
        done = self._run(["apt-cache", "showpkg", name])
        _, _, listed = done.stdout.decode("utf-8", "replace").partition("\nReverse Provides:")
        names = {line.split()[0] for line in listed.splitlines() if line.strip()}
        return tuple(sorted(provider for provider in names if ":" not in provider))

    def source_of(self, name: str, version: str) -> str:
        """Return the source package that a binary package is built from."""
        done = self._run(["apt-cache", "show", "--no-all-versions", f"{name}={version}"])
        fields = next(paragraphs(done.stdout.decode("utf-8", "replace")), {})
        return (fields.get("source") or name).split()[0].partition(":")[0]

    def _run(
        self,
        argv: Sequence[str],
        *,
        options: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        settings = [
            part for name, value in {**_OPTIONS, **(options or {})}.items() for part in ("-o", f"{name}={value}")
        ]
        env = {**_ENV, **dict.fromkeys(_PROXIES, ""), "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
        return self._container.run([argv[0], *settings, *argv[1:]], env=env, on_line=on_line)


def _downloads(lines: Iterable[str]) -> Iterator[Download]:
    for line in lines:
        match = _URI.fullmatch(line)
        if match is None:
            continue
        # apt's own name for the file: name, version and architecture, with "_", ":" and "%" percent-encoded
        name, version, architecture = (unquote(part) for part in match["file"].split("_"))
        place = re.fullmatch(rf"({re.escape(GATEWAY_URL)}/apt/\d+)/+(.+)", match["uri"])
        if place is None:
            continue
        yield Download(
            name=name,
            version=version,
            architecture=architecture,
            address=place.group(1),
            path=unquote(place.group(2)).removeprefix("./"),
            size=int(match["size"]),
            sha256=match["sha256"],
        )


def _removed(lines: Sequence[str]) -> tuple[str, ...]:
    if _REMOVED not in lines:
        return ()
    names: list[str] = []
    for line in lines[lines.index(_REMOVED) + 1 :]:
        if not line.startswith(" "):
            break
        names += (name.rstrip("*") for name in line.split() if not name.startswith("("))
    return tuple(names)


def _problems(done: Completed, readable: Callable[[str], str]) -> tuple[str, ...]:
    """Return apt's warnings and errors, each once, without its prefixes."""
    lines = (done.stderr + b"\n" + done.stdout).decode("utf-8", "replace").splitlines()
    found = [_ADDRESS.sub("", readable(line[3:].strip())) for line in lines if line.startswith(("E: ", "W: "))]
    return tuple(dict.fromkeys(line for line in found if not line.startswith("Some index files failed")))


# What apt prints around the reasons and that says nothing about them
_NOISE = re.compile(
    r"(Reading|Building|Solving|Note, selecting|Some packages could not|requested an impossible|distribution that some|"
    r"or been moved|The following information may|This may mean|is only available from|E: Unable to correct problems).*"
)


def _explanation(done: Completed, readable: Callable[[str], str]) -> tuple[str, ...]:
    """Return apt's reasons: the unmet dependencies, then its errors."""
    lines = (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace").splitlines()
    kept = [readable(line.rstrip()) for line in lines if line.strip() and not _NOISE.match(line)]
    return tuple(dict.fromkeys(line.removeprefix("E: ") for line in kept))[:30]

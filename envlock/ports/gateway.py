"""How programs in a container fetch: through a handler on this side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class GatewayRequest:
    """A GET or HEAD that a program in a container (or a resolver on this machine) makes through the gateway."""

    method: str
    path: str  # with the query, percent-encoded, starting with "/"
    headers: Mapping[str, str]  # names in lower case


@dataclass(frozen=True, kw_only=True, slots=True)
class GatewayResponse:
    """Its answer. ``body`` is iterated once, and closed (``close()``) if it has that method."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Iterable[bytes] = ()


Handler = Callable[[GatewayRequest], GatewayResponse]

GATEWAY_URL = "http://127.0.0.1:8629"  # where a container's programs find the handler

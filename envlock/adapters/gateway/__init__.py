"""The gateway: how programs without a network reach this machine's handler, over a pair of byte streams or loopback."""

from __future__ import annotations

from envlock.adapters.gateway.host import Gateway, agent_source
from envlock.adapters.gateway.loopback import serve_on_loopback

__all__ = ["Gateway", "agent_source", "serve_on_loopback"]

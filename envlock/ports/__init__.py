"""The questions that envlock asks of the world, as typed protocols. Adapters answer them; verbs only know these."""

from envlock.ports.bases import Bases, OpenedBase
from envlock.ports.engine import Coming, Completed, Container, Engine, EngineImage, EngineInfo, Loaded, Pipe, Supplies
from envlock.ports.gateway import GATEWAY_URL, GatewayRequest, GatewayResponse, Handler
from envlock.ports.packages import AptArchive, Artifacts, IndexFile, PackageIndex, Resolution, Resolver, Wanted
from envlock.ports.progress import Progress, Task
from envlock.ports.registry import Manifest, Registry
from envlock.ports.runs import Outbox, RunStore

__all__ = [
    "GATEWAY_URL",
    "AptArchive",
    "Artifacts",
    "Bases",
    "Coming",
    "Completed",
    "Container",
    "Engine",
    "EngineImage",
    "EngineInfo",
    "GatewayRequest",
    "GatewayResponse",
    "Handler",
    "IndexFile",
    "Loaded",
    "Manifest",
    "OpenedBase",
    "Outbox",
    "PackageIndex",
    "Pipe",
    "Progress",
    "Registry",
    "Resolution",
    "Resolver",
    "RunStore",
    "Supplies",
    "Task",
    "Wanted",
]

"""Remembering answers: in memory, on disk, on a server, in a cache of your own; and the key that they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._doors import enter
from ..exceptions import CacheMiss
from .base import BaseCache, CacheWarning
from .disk import DiskCache
from .key import make_cache_key
from .memory import AutoCache
from .origin import Info, info
from .shelf import Stats, stats

if TYPE_CHECKING:
    from .recorded import RecordedCache
    from .redis import RedisCache
    from .sealed import SealedCache
    from .tiered import TieredCache

__all__ = ["AutoCache", "BaseCache", "CacheMiss", "CacheWarning", "DiskCache", "Info", "RecordedCache", "RedisCache"]
__all__ += ["SealedCache", "Stats", "TieredCache", "info", "make_cache_key", "stats"]

_ROOMS = {"RecordedCache": "recorded", "RedisCache": "redis", "SealedCache": "sealed", "TieredCache": "tiered"}
_ROOMS = {name: f"cache.{room}:{name}" for name, room in _ROOMS.items()}


def __getattr__(name: str) -> Any:
    return enter(__name__, _ROOMS, name)

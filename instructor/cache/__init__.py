"""Remembering answers: `AutoCache`, `DiskCache`, your own `BaseCache`, and the key they share."""

from __future__ import annotations

from ..exceptions import CacheMiss
from .base import BaseCache, CacheWarning
from .disk import DiskCache
from .key import make_cache_key
from .memory import AutoCache
from .origin import Info, info
from .redis import RedisCache
from .shelf import Stats, stats

__all__ = ["AutoCache", "BaseCache", "CacheMiss", "CacheWarning", "DiskCache"]
__all__ += ["Info", "RedisCache", "Stats", "info", "make_cache_key", "stats"]

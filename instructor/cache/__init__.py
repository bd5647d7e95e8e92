"""Remembering answers: `AutoCache`, `DiskCache`, your own `BaseCache`, and the key they share."""

from __future__ import annotations

from .base import BaseCache, CacheWarning
from .disk import DiskCache
from .key import make_cache_key
from .memory import AutoCache
from .shelf import Stats, stats

__all__ = ["AutoCache", "BaseCache", "CacheWarning", "DiskCache", "Stats", "make_cache_key", "stats"]

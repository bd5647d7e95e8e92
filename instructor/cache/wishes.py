"""What a call says of its cache, beside which one it is."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from .limits import lifetime, named

Policy: TypeAlias = Literal["on", "off", "refresh", "read", "offline"]
"""What a call does with its cache: `refresh` stores without looking, `read` never stores, `offline` never asks."""


class Stale(NamedTuple):
    """For how many seconds past its freshness an answer will do: after an error, and while a new one is asked for."""

    if_error: float
    while_revalidate: float


class Wishes(NamedTuple):
    """For how many seconds an answer is fresh, whose it is, which of several, and so on."""

    ttl: float | None = None
    namespace: str | None = None
    sample: int | None = None
    policy: Policy = "on"
    tags: tuple[str, ...] = ()
    stale: Stale | None = None


NONE = Wishes()
AGING = ("stale_if_error", "stale_while_revalidate")
WORDS = frozenset({"cache_ttl", "cache_namespace", "cache_sample", "cache_mode", "cache_tags", *AGING})


def wishes_in(kwargs: dict[str, Any], *, of_call: bool = True) -> Wishes:
    """What stands in the arguments of a call, or in the defaults of a client, which is taken out.

    Raises:
        ValueError: it cannot be.
    """
    if WORDS.isdisjoint(kwargs):
        return NONE
    ttl = lifetime("cache_ttl", kwargs.pop("cache_ttl", None))
    return Wishes(
        ttl,
        named("cache_namespace", kwargs.pop("cache_namespace")) if "cache_namespace" in kwargs else None,
        _sample(kwargs.pop("cache_sample", None)),
        _policy(kwargs.pop("cache_mode", "on")),
        _tags(kwargs.pop("cache_tags", None)),
        _stale(kwargs, lasts=not of_call or ttl is not None),
    )


def _policy(policy: Any) -> Policy:
    if policy in get_args(Policy):
        return policy  # type: ignore[no-any-return]
    raise ValueError(f"cache_mode must be one of {', '.join(map(repr, get_args(Policy)))}, not {policy!r}.")


def _sample(sample: Any) -> int | None:
    if sample is None or (isinstance(sample, int) and not isinstance(sample, bool) and sample >= 0):
        return sample
    raise ValueError(f"cache_sample must be a whole number from 0 on, not {sample!r}.")


def _tags(tags: Any) -> tuple[str, ...]:
    if tags is None or isinstance(tags, (list, tuple, set, frozenset)):
        return tuple(dict.fromkeys(named("a tag in cache_tags", tag) for tag in tags or ()))
    raise ValueError(f"cache_tags must be a list of strings, not {tags!r}: write cache_tags=[{str(tags)!r}].")


def _stale(kwargs: dict[str, Any], *, lasts: bool) -> Stale | None:
    """For how long an old answer will do; `lasts` says that there is a time from which that counts."""
    given = {name: kwargs.pop(name, None) for name in AGING}
    stale = Stale(*(lifetime(name, seconds) or 0 for name, seconds in given.items()))
    if min(stale) < 0:
        raise ValueError(f"{' and '.join(given)} must be 0 seconds or more, not {given}.")
    if max(stale) and not lasts:
        raise ValueError(f"{' and '.join(given)} count from the end of cache_ttl: give that, too.")
    return stale if max(stale) else None

"""What comes with a result: the completion it was read from, and what it cost.

Both live in the result's own `__dict__`, under names that pydantic neither compares nor dumps. On a cache hit
they are kept as text until somebody looks, because restoring an SDK's object costs more than the hit itself:
the descriptors here, put on the user's class with its first result, do the looking.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pydantic


class Later(msgspec.Struct, eq=False):
    """A value made when it is first looked at; pickled and copied as the value it stands for."""

    def make(self) -> Any:
        """The value itself."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """What is known of where it came from."""
        return {}

    def __reduce__(self) -> tuple[Callable[[Any], Any], tuple[Any]]:
        return made, (self.make(),)


def made(value: Any) -> Any:
    """The value itself, made now if it was to be made later."""
    return value.make() if isinstance(value, Later) else value


class Receipt:
    """An attribute kept in the instance's own dictionary, made on first use when it holds a `Later`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, result: Any, owner: type | None = None) -> Any:
        """The attribute; on the class, the descriptor itself."""
        if result is None:
            return self
        if self.name not in result.__dict__:
            raise AttributeError(f"{type(result).__name__!r} object has no attribute {self.name!r}")
        return made(result.__dict__[self.name])

    def __set__(self, result: Any, value: Any) -> None:
        """Keep `value`, a frozen model's too."""
        result.__dict__[self.name] = value


_NAMES = ("_raw_response", "_total_usage")


def attach(value: Any, completion: Any, usage: Any) -> None:
    """Give `value` its receipt; plain values such as numbers and enum members carry none."""
    kind = type(value)
    if type(kind.__dict__.get("_raw_response")) is Receipt or _carry(kind):  # its own: a parent may leak less
        kept = value.__dict__
        kept["_raw_response"] = completion
        if usage is not None:
            kept["_total_usage"] = usage
    elif isinstance(value, pydantic.BaseModel):
        _fill(value, _raw_response=completion, _total_usage=usage)


def _carry(kind: type[Any]) -> bool:
    """Let the results of a model look their receipts up, unless it has attributes of those names."""
    taken = any(type(getattr(kind, name, Receipt)) not in {type, Receipt} for name in _NAMES)
    if taken or not issubclass(kind, pydantic.BaseModel) or _leaks(kind.model_config):
        return False
    for name in _NAMES:
        setattr(kind, name, Receipt(name))
    return True


def _leaks(config: Mapping[str, Any]) -> bool:
    """Whether pydantic would take what lies in a result's dictionary for a field of it."""
    if config.get("revalidate_instances", "never") != "never":
        return config.get("extra") in {"allow", "forbid"}
    return config.get("extra") == "allow" and bool(config.get("validate_assignment"))


def _fill(value: pydantic.BaseModel, **receipts: Any) -> None:
    """Give a model that declares a private attribute of that name what it waits for."""
    for name in receipts.keys() & value.__private_attributes__.keys():
        setattr(value, name, made(receipts[name]))

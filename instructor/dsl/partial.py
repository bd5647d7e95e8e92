"""Models whose fields may still be missing."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, ClassVar, Generic, Optional, TypeVar, cast

from pydantic import BaseModel, Field, SerializeAsAny, create_model
from pydantic.fields import FieldInfo, ModelPrivateAttr
from pydantic_core import PydanticUndefined

from ..snapshots import Form, ModelClass, ModelForm, Snapshots, form_of
from .streaming import Streamed, known

MEMO = "__instructor_partial__"

T = TypeVar("T", bound=BaseModel)
_lock = threading.RLock()


def snapshots(type_: Any, load: Callable[[str], Any], field: str | None = None, **how: Any) -> Snapshots:
    """A reader of the snapshots of a value, which may stand in a field of the document."""
    return Snapshots(form_of(type_, _form), load, field, **how)


def _form(wanted: type[BaseModel]) -> Form:
    return cast("Form", partial_of(wanted).__form__)


class PartialBase(Streamed, Generic[T]):
    """What the classes `Partial[M]` have in common."""

    __wanted__: ClassVar[type[BaseModel]]
    __form__: ClassVar[Form]

    def __reduce__(self) -> tuple[Any, ...]:
        return _blank, (self.__wanted__,), self.__getstate__()  # type: ignore[attr-defined]

    @classmethod
    def get_partial_model(cls) -> type[T]:
        """The class of the snapshots: this one."""
        return cls  # type: ignore[return-value]

    @classmethod
    def _reader(cls, **how: Any) -> Snapshots:
        """A reader of snapshots; `how` is the `context` and the strictness of validation, others are ignored."""
        how = known(how)
        return snapshots(cls.__wanted__, lambda text: cls.__wanted__.model_validate_json(text, **how), **how)


def partial_of(wanted: type[BaseModel]) -> Any:
    """The class `Partial[wanted]`, made once and remembered on the model: a table would keep every model alive."""
    if issubclass(wanted, PartialBase):
        return wanted
    with _lock:
        made = vars(wanted).get(MEMO)
        if made is None:
            made = _make(wanted)
            setattr(wanted, MEMO, made)
        return made


def _make(wanted: type[BaseModel]) -> Any:
    if not wanted.__pydantic_complete__:
        wanted.model_rebuild()
    fields: dict[str, Any] = {name: _optional(field) for name, field in wanted.model_fields.items()}
    bases: Any = (wanted, PartialBase)
    naming: dict[str, Any] = {"__base__": bases, "__doc__": wanted.__doc__, "__module__": wanted.__module__}
    made: Any = create_model(f"Partial{wanted.__name__}", **naming, **fields)
    made.__wanted__, made.__form__ = wanted, ModelForm(wanted, _Builder(made), _form)
    return made


def _optional(field: FieldInfo) -> tuple[Any, Any]:
    """A field that may be None, and that is dumped as what is in it."""
    names = ("alias", "validation_alias", "serialization_alias", "title", "description", "exclude", "repr")
    facts = {name: getattr(field, name) for name in (*names, "default_factory" if field.default_factory else "default")}
    if field.is_required():
        facts["default"] = None
    as_it_is: Any = SerializeAsAny()  # type: ignore[type-arg]
    return Annotated[Optional[field.annotation], as_it_is], Field(**facts)  # noqa: UP045


class _Builder:
    """Makes instances that nothing has validated. `model_construct` would run the user's `model_post_init`."""

    def __init__(self, made: Any) -> None:
        self.made, self.open = made, made.model_config.get("extra") == "allow"
        plain = {name: field.default for name, field in made.model_fields.items() if _is_plain(field)}
        self.blank = {**dict.fromkeys(made.model_fields), **plain}
        self.fresh = {name: field for name, field in made.model_fields.items() if not (name in plain or _waits(field))}
        self.private = {name: it for name, it in made.__private_attributes__.items() if _has_default(it)}

    def __call__(self, values: dict[str, Any], extra: dict[str, Any]) -> Any:
        """An instance with these values, and defaults for the others."""
        fresh = {name: _default(field) for name, field in self.fresh.items() if name not in values}
        private = {name: _default(attribute) for name, attribute in self.private.items()}
        instance = self.made.__new__(self.made)
        object.__setattr__(instance, "__dict__", {**self.blank, **fresh, **values})
        object.__setattr__(instance, "__pydantic_fields_set__", {*values, *extra})
        object.__setattr__(instance, "__pydantic_extra__", extra if self.open else None)
        object.__setattr__(instance, "__pydantic_private__", private if self.made.__private_attributes__ else None)
        return instance


def _default(field: FieldInfo | ModelPrivateAttr) -> Any:
    return field.default_factory() if field.default_factory else copy.deepcopy(field.default)  # type: ignore[call-arg]


def _is_plain(field: FieldInfo) -> bool:
    """Whether its default is one that snapshots may share."""
    return field.default_factory is None and isinstance(field.default, (str, int, float, Enum, type(None)))


def _has_default(attribute: ModelPrivateAttr) -> bool:
    return not _waits(attribute) and (attribute.default_factory or attribute.default) is not PydanticUndefined


def _waits(field: FieldInfo | ModelPrivateAttr) -> bool:
    """Whether its default needs the fields before it."""
    return bool(getattr(field, "default_factory_takes_validated_data", False))


def _blank(wanted: type[BaseModel]) -> Any:
    made = partial_of(wanted)
    return made.__new__(made)


class Partial(Generic[T]):
    """`Partial[M]` stands for M while it is still arriving: a subclass of M whose fields may be None."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Any:  # noqa: D102
        raise TypeError("Partial cannot be instantiated; Partial[YourModel] is a class to ask for.")

    def __init_subclass__(cls) -> None:
        raise TypeError("Partial cannot be subclassed; ask for Partial[YourModel].")

    def __class_getitem__(cls, wanted: type[T]) -> type[T]:
        if not isinstance(wanted, ModelClass):
            raise TypeError(f"Partial takes a pydantic model, not {wanted!r}.")
        return partial_of(wanted)  # type: ignore[no-any-return]


class PartialLiteralMixin:
    """Does nothing: literals are shown when they are complete, whatever the model."""

    def __init_subclass__(cls) -> None:
        warnings.warn("PartialLiteralMixin does nothing any more; leave it out.", DeprecationWarning, stacklevel=2)

"""What of a value can be shown while it is still arriving, by its type."""

from __future__ import annotations

import collections.abc
import enum
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from pydantic import AliasChoices, AliasPath, BaseModel, PydanticUserError, RootModel, TypeAdapter
from pydantic.errors import PydanticUndefinedAnnotation
from pydantic_core import from_json

from .reader import UNREAD, WORD, Node, Tree, agree

LARGE = 4096
"""From this weight of what is open, it is shown again only when some more has arrived, which keeps the work linear."""
SHARE = 64
WEIGHTS = {"[": 8, "{": 16}
"""What a member of an open list or object weighs, in characters of an open string; an open one itself weighs OPEN."""
OPEN = 256

LISTS = {list, collections.abc.Iterable}
ModelClass = type(BaseModel)


class Snapshots:
    """Shows a value each time that more of it can be seen, and in the end the whole of it as `load` makes it.

    What stands in a `field` of the document is shown; by default all of it.
    """

    def __init__(self, form: Form, load: Callable[[str], Any], field: str | None = None, **how: Any) -> None:
        self.tree, self.how, self.changed = Tree(), how, False
        self._form, self._load, self._field = form, load, field
        self._shown_at, self._shown = 0, False

    def feed(self, piece: str) -> list[Any]:
        """The value as it can be seen now, if that is more than before."""
        self.tree.feed(piece)
        broken = self.tree.over and self.tree.path and not self.tree.repeats  # it cannot be read any further
        if broken or self._is_early():
            return []
        self._shown_at, self.changed = self.tree.length, False
        try:
            shown = self._show()
        except ValueError:  # what arrived is no JSON
            self.tree.over = True
            return []
        self._shown = self._shown or self.changed
        return [shown] if self.changed else []

    def end(self, text: str) -> list[Any]:
        """The whole. Where another document was fed and nothing of it shown, this one is shown as its replay will be.

        Raises:
            ValueError: another one was shown.
        """
        whole, rest = self._load(text), []
        if not (self._shown or agree(self.tree.text(), text)):
            self.tree, self._shown_at = Tree(), 0
            rest = self.feed(text)
        if self._shown and (self.tree.repeats or not agree(self.tree.text(), text)):
            raise ValueError("The answer is another one than what was shown of it.")
        return [*rest, whole]

    def note(self, node: Node, value: Any) -> None:
        """Remember what is shown of a value, and whether there was less before."""
        seen = type(value), len(value) if isinstance(value, (str, list)) else 0
        if value is not HIDDEN and seen != node.seen:
            self.changed, node.seen = True, seen

    def _show(self) -> Any:
        root = self.tree.root
        if root is None or root.kind != "{":
            return HIDDEN
        if self._field is None:
            return self._form.grow(root, self)  # complete or not: the end validates it
        node = root.members.get(self._field)
        return HIDDEN if node is None else self._form.show(node, self)

    def _is_early(self) -> bool:
        weight = sum(
            OPEN + len(node.members) * WEIGHTS[node.kind] if node.kind in WEIGHTS else self.tree.length - node.start
            for node in self.tree.path
        )
        return weight > LARGE and (self.tree.length - self._shown_at) * SHARE < weight


# What can be shown of a value, by its type.

HIDDEN = object()
"""Nothing can be shown yet."""
_ANY = '{["' + WORD


class Form:
    """How values of a type are shown: by default when they are complete and valid.

    `kinds` are the kinds of JSON values that can be one, of which others than `shows` are never shown; `parts` are the
    forms of what is in it.
    """

    shows = _ANY

    def __init__(self, type_: Any, kinds: str = "", parts: Sequence[Form] = ()) -> None:
        self.type, self.kinds, self.parts = type_, kinds or self.shows, parts

    @cached_property
    def validate(self) -> Callable[..., Any]:
        """Make a value of JSON text."""
        try:
            return TypeAdapter(self.type).validator.validate_json
        except (PydanticUserError, PydanticUndefinedAnnotation):  # it takes the model around it to understand the type
            return lambda _text, **_: HIDDEN

    def show(self, node: Node, reading: Snapshots) -> Any:
        """The value as far as it can be seen, or HIDDEN."""
        if node.kind not in self.shows:
            return HIDDEN
        if node.end is None:
            shown = self.grow(node, reading)
        elif node.value is UNREAD:
            node.value = shown = self.settle(node, reading)
        else:
            return node.value
        reading.note(node, shown)
        return shown

    def grow(self, _node: Node, _reading: Snapshots) -> Any:
        """What can be seen of an open value."""
        return HIDDEN

    def settle(self, node: Node, reading: Snapshots) -> Any:
        """What a complete value comes to; one that is not valid stays as it grew."""
        try:
            return self.validate(reading.tree.text(node), **reading.how)
        except ValueError:
            return self.grow(node, reading)

    def fits(self, node: Node, _reading: Snapshots) -> bool:
        """Whether the value, as far as it is known, can be of this type."""
        return node.kind in self.kinds


class _Text(Form):
    """A string is shown as it grows."""

    shows = '"'

    def grow(self, node: Node, reading: Snapshots) -> Any:
        return from_json(reading.tree.text(node), allow_partial="trailing-strings")

    settle = grow


class _List(Form):
    """A list is shown item by item."""

    shows = "["

    def grow(self, node: Node, reading: Snapshots) -> Any:
        done = node.shown
        while len(done) < len(node.members):
            child = node.members[len(done)]
            shown = self.parts[0].show(child, reading)
            if child.end is None:
                return [*done, *([] if shown is HIDDEN else [shown])]
            done.append(None if shown is HIDDEN else shown)
        return [*done]

    settle = grow


class _Dict(Form):
    """A dict is shown key by key."""

    shows = "{"

    def grow(self, node: Node, reading: Snapshots) -> Any:
        shown = {key: self.parts[0].show(child, reading) for key, child in node.members.items()}
        return {key: value for key, value in shown.items() if value is not HIDDEN}

    settle = grow


class _Union(Form):
    """A union is shown once it can only be one of its members."""

    def grow(self, node: Node, reading: Snapshots) -> Any:
        if node.form is None:  # and never again: a key that fits no more takes nothing back
            fitting = [member for member in self.parts if member.fits(node, reading)]
            node.form = fitting[0] if len(fitting) == 1 else None
        return node.form.grow(node, reading) if node.form else HIDDEN


class ModelForm(Form):
    """A model is shown field by field; complete, as the user's own class where it is valid."""

    def __init__(self, type_: type[BaseModel], build: Build, form_of_model: FormOfModel) -> None:
        super().__init__(type_, "{")
        self.build, self.form_of_model, self.config = build, form_of_model, type_.model_config

    @cached_property
    def fields(self) -> dict[str, tuple[str, Form]]:
        """By each key that means it in JSON, the name of a field and the form of its values."""
        by_name = self.config.get("populate_by_name") or self.config.get("validate_by_name")
        found = {}
        for name, field in self.type.model_fields.items():
            form = form_of(field.rebuild_annotation(), self.form_of_model)  # with its constraints
            keys = {*_keys(field.validation_alias), *([name] if by_name or not field.validation_alias else [])}
            found.update(dict.fromkeys(keys, (name, form)))
        return found

    def grow(self, node: Node, reading: Snapshots) -> Any:
        """The fields that can be seen."""
        if node.kind != "{":
            return HIDDEN
        values: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for key, child in node.members.items():
            name, form = self.fields.get(key, (None, _RAW))
            if name is None and self.config.get("extra") != "allow":
                continue
            shown = form.show(child, reading)
            if shown is not HIDDEN:
                (extra if name is None else values)[name or key] = shown
        return self.build(values, extra)

    def fits(self, node: Node, reading: Snapshots) -> bool:
        """Whether the model has all the keys that are there, and takes their values."""
        return node.kind == "{" and all(self._takes(key, child, reading) for key, child in node.members.items())

    def _takes(self, key: str, child: Node, reading: Snapshots) -> bool:
        """Whether such a key is known, and may have that value as far as it is there."""
        _, form = self.fields.get(key, (None, None))
        if form is None or child.end is None or child.kind in "{[" or isinstance(form, (_Text, _Union)):
            return form.fits(child, reading) if form else self.config.get("extra") == "allow"
        return form.settle(child, reading) is not HIDDEN


def form_of(type_: Any, form_of_model: FormOfModel) -> Form:
    """How values of the type are shown."""
    bare = get_args(type_)[0] if get_origin(type_) is Annotated else type_
    form, args = get_origin(bare) or bare, get_args(bare)
    if form is str:
        return _Text(type_)
    if any(isinstance(arg, str) for arg in args) and form is not Literal:  # `list["Node"]`, as Python 3.10 leaves it
        return Form(type_)
    if isinstance(bare, ModelClass) and not issubclass(bare, RootModel):
        return form_of_model(bare)
    if form in LISTS:
        return _List(type_, parts=[form_of(args[0] if args else Any, form_of_model)])
    if form is dict and args[:1] in {(), (str,)}:
        return _Dict(type_, parts=[form_of(args[1] if args else Any, form_of_model)])
    nested = [form_of(member, form_of_model) for member in members(bare)]
    parts = [part for form in nested for part in (form.parts if isinstance(form, _Union) else [form])]
    return _Union(type_, "".join(part.kinds for part in parts), parts) if nested else Form(type_, _kinds(bare))


def members(type_: Any) -> tuple[Any, ...]:
    """The members of a union; what is none has none."""
    return get_args(type_) if get_origin(type_) is Union or type(type_).__name__ == "UnionType" else ()


def _kinds(bare: Any) -> str:
    if get_origin(bare) is Literal:
        values: Iterable[Any] = get_args(bare)
    elif isinstance(bare, type) and issubclass(bare, enum.Enum):
        values = [member.value for member in bare]
    else:
        return WORD if bare in {int, float, bool, type(None)} else _ANY
    return "".join({'"' if isinstance(value, str) else WORD if isinstance(value, int) else _ANY for value in values})


def _keys(alias: str | AliasPath | AliasChoices | None) -> set[str]:
    """The keys that a validation alias stands for; a path into a list or an object is no key."""
    if isinstance(alias, AliasChoices):
        return {key for choice in alias.choices for key in _keys(choice)}
    path = alias.path if isinstance(alias, AliasPath) else [alias]
    return {key for key in path if isinstance(key, str)} if len(path) == 1 else set()


_RAW = Form(Any)

Build: TypeAlias = Callable[[dict[str, Any], dict[str, Any]], Any]
"""Makes an instance of values, by field, and of what else there is, by key."""
FormOfModel: TypeAlias = Callable[[type[BaseModel]], Form]

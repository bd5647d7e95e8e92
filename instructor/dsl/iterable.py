"""Lists whose items are given one by one, each as soon as it is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, cast

from pydantic import BaseModel, Field, TypeAdapter, create_model
from pydantic_core import from_json

from ..reader import Node, Tree, agree
from ..snapshots import members
from .streaming import Streamed, known


class Items:
    """Reads the list in the field of an object. `load` makes the whole list of the whole document.

    It is `plain` if that says no more than its items, each of which is valid.
    """

    def __init__(self, item: Any, field: str, load: Callable[[str], Any], *, plain: bool = True, **how: Any) -> None:
        self._validate, self._how = TypeAdapter(item).validator.validate_json, how
        self._field, self._load, self._plain = field, load, plain
        self.tree = Tree(levels=2)
        self._given: list[str] = []
        self._stopped = False

    def feed(self, piece: str) -> list[Any]:
        """The items that are whole now. One that is not valid is the last: at the end the whole list is refused."""
        self.tree.feed(piece)
        found: list[Any] = []
        for node in self._whole():
            text = self.tree.text(node)
            try:
                found.append(self._validate(text, **self._how))
            except ValueError:
                self._stopped = True
                break
            self._given.append(text)
        return found

    def end(self, text: str) -> list[Any]:
        """The rest; when `text` is not what was fed, its list must begin with what was given."""
        if self._plain and agree(self.tree.text(), text) and self._is_complete(text):
            return []
        items, given = list(self._load(text)), len(self._given)
        if given and repr(from_json(text)[self._field][:given]) != repr([from_json(item) for item in self._given]):
            raise ValueError(f"The list in the answer does not begin with the {given} items that were given already.")
        return items[given:]

    def _whole(self) -> Iterator[Node]:
        found = self._list()
        while found and not self._stopped and len(self._given) < len(found.members):
            node = found.members[len(self._given)]
            if node.end is None:
                return
            yield node

    def _is_complete(self, text: str) -> bool:
        root, found = self.tree.root, self._list()
        try:
            from_json(text)
        except ValueError:
            return False
        return bool(found and root and root.end and len(self._given) == len(found.members))

    def _list(self) -> Node | None:
        root = self.tree.root
        found = root.members.get(self._field) if root and root.kind == "{" else None
        return found if found and found.kind == "[" else None


class IterableBase(Streamed):
    """What the classes that `IterableModel` makes have in common."""

    task_type: ClassVar[Any]

    @classmethod
    def _reader(cls, **how: Any) -> Items:
        """A reader of the tasks; `how` is the `context` and the strictness of validation, others are ignored."""
        how, model = known(how), cast("Any", cls)
        return tasks_of(cls, lambda text: model.model_validate_json(text, **how), **how)

    @staticmethod
    def get_object(s: str, _stack: int = 0) -> tuple[str | None, str]:
        """The first value of a text, if it is whole, and what follows it."""
        tree = Tree()
        tree.feed(s)
        whole = tree.root and tree.root.end
        return (tree.text(tree.root), s[whole:]) if whole else (None, s)


def tasks_of(made: type[IterableBase], load: Callable[[str], Any], **how: Any) -> Items:
    """A reader of the tasks in what `load` makes; a subclass of the user's may say more than its tasks do."""
    plain = IterableBase in made.__bases__
    return Items(made.task_type, "tasks", lambda text: load(text).tasks, plain=plain, **how)


def IterableModel(  # noqa: N802 - a function under the name that users know
    subtask_class: Any, name: str | None = None, description: str | None = None
) -> type[BaseModel]:
    """A model with a list of tasks: `Iterable[subtask_class]`, with a name and a description of its own."""
    base = (BaseModel, IterableBase)
    made: Any = tasks_model(subtask_class, name, description, base, default_factory=list, repr=False)
    made.task_type = subtask_class
    return made  # type: ignore[no-any-return]


def tasks_model(
    item: Any, name: str | None = None, description: str | None = None, base: Any = None, **how: Any
) -> type[BaseModel]:
    """An object with a list of tasks, because tools take objects; it is named after them."""
    name = name or "Or".join(part.__name__ for part in members(item) or (item,))
    tasks: Any = Field(description=f"Correctly segmented list of `{name}` tasks", **how)
    doc = description or f"Correct segmentation of `{name}` tasks"
    return create_model(f"Iterable{name}", __base__=base, __doc__=doc, tasks=(list[item], tasks))

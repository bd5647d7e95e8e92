"""Which parts of a JSON text are complete."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic_core import from_json

from ..reader import Node, Tree


class JsonCompleteness:
    """Tells which values of the text that was analysed last are complete, by paths such as `user.tags[0]`."""

    def __init__(self) -> None:
        self._complete: set[str] = set()

    def analyze(self, json_str: str) -> None:
        """Look at a text."""
        tree = Tree()
        tree.feed(json_str)
        nodes = _nodes("", tree.root) if tree.root else ()
        self._complete = {path for path, node in nodes if (node.end if path else is_json_complete(json_str))}

    def is_root_complete(self) -> bool:
        """Whether the text is a whole document."""
        return self.is_path_complete("")

    def is_path_complete(self, path: str) -> bool:
        """Whether the value at a path is complete; the path of the document is empty."""
        return path in self._complete


def is_json_complete(json_str: str) -> bool:
    """Whether a text is a whole JSON document."""
    try:
        from_json(json_str)
    except ValueError:
        return False
    return True


def _nodes(path: str, node: Node) -> Iterator[tuple[str, Node]]:
    yield path, node
    for key, child in node.members.items() if node.kind == "{" else enumerate(node.members):
        step = f"[{key}]" if node.kind == "[" else f".{key}" if path else f"{key}"
        yield from _nodes(path + step, child)

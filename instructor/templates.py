"""Render one template in a sandbox that bounds what it makes and how long it works.

Jinja2's sandbox keeps a template from private attributes and from changing what it is given, but does not bound its
work. Here every turn of a loop, and every value that a template makes, is charged to a meter; the few things that can
make much more than they are given are asked about first. Nothing needs signals or another thread.

What is bounded is the template. Functions and objects that the program itself puts in the context are the program's.
"""

import re
import time
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from contextvars import ContextVar
from functools import lru_cache, wraps
from itertools import islice
from typing import Any

from jinja2 import Environment, Template, TemplateError, TemplateRuntimeError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_VALUE = 1024 * 1024  # characters in one value, and in the result; what is no text counts as 8
MAX_WORK = 16 * MAX_VALUE  # of the same, made along the way
MAX_SECONDS = 0.1  # of this thread's processor time
MAX_DEPTH = 32  # of a value
MAX_TOKENS = 8000  # which bounds the time that compiling takes

# What can give or cost as much as its first argument times this number, or times another argument's size or value.
_AMPLIFIERS = {
    "*": 1, "batch": 1, "center": 1, "expandtabs": 1, "indent": 1, "join": 1, "ljust": 1, "replace": 1, "rjust": 1,
    "to_bytes": 1, "tojson": 1, "translate": 1, "zfill": 1,
    "**": 128, "round": 128, "slice": 8, "sum": 128, "title": 64, "urlize": 64, "wordwrap": 64,
}  # fmt: skip
_CONTAINERS = (list, tuple, set, frozenset, dict, KeysView, ValuesView, ItemsView)
_PASSED_BY_JINJA = (Context, nodes.EvalContext, Environment)
_COMPUTED_WIDTH = re.compile(r"%[-+ #0]*(?:\d*\.)?\*|\{[^{}]*:[^{}]*\{")


def render(source: str, context: Mapping[str, Any], where: str, clock: Callable[[], float] = time.thread_time) -> str:
    """The text that `source` makes of `context`; every failure is a jinja2.TemplateError that begins with `where`."""
    before = _METER.set(_Meter(clock))
    try:
        return _compiled(source).render(context)
    except TemplateError as error:
        hint = " (wrap text that is not a template in Verbatim)" if isinstance(error, TemplateSyntaxError) else ""
        error.args = (f"{where}: {error.message}{hint}", *error.args[1:])
        raise
    except Exception as error:  # a template can make anything raise, down to the parser's recursion
        raise TemplateRuntimeError(f"{where}: {type(error).__name__}: {error}") from error
    finally:
        _METER.reset(before)


class _Meter:
    """What one rendering may still make, and until when."""

    def __init__(self, clock: Callable[[], float]):
        self.clock, self.deadline, self.left = clock, clock() + MAX_SECONDS, MAX_WORK

    def charge(self, size: int) -> None:
        self.left -= size
        if size > MAX_VALUE or self.left < 0:
            raise SecurityError(f"the template makes more than {MAX_VALUE} characters at once, or {MAX_WORK} in all")
        if self.clock() > self.deadline:
            raise SecurityError(f"the template works for more than {MAX_SECONDS} seconds")


_METER: ContextVar[_Meter] = ContextVar("_METER")


def _weighed(value: Any) -> Any:
    _size(value)
    return value


def _size(value: Any) -> int:
    """The size of everything in `value`, charged level by level, so that no nesting is too much to count."""
    total, level = 0, [value]
    for _ in range(MAX_DEPTH):
        size = sum(map(_own_size, level))
        _METER.get().charge(size)
        total += size
        level = [child for item in level for child in _children(item)]
        if not level:
            return total
    raise SecurityError(f"the template makes a value that is nested deeper than {MAX_DEPTH} levels")


def _own_size(value: Any) -> int:
    if isinstance(value, int):
        return 8 + (value.bit_length() ** 2 >> 10)  # printing and multiplying take quadratic time
    if isinstance(value, (str, bytes, range)):
        return max(8, len(value))
    return 8 + 8 * len(value) if isinstance(value, _CONTAINERS) else 8


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.items()
    return value if isinstance(value, _CONTAINERS) else ()


def _allow(name: str, first: Any, *others: Any) -> None:
    """Refuse what could make something huge, or take long, before it does."""
    size = 0
    if name in {"%", "format", "format_map"}:
        size = _formatted_size(str(first), others)
    elif name in _AMPLIFIERS:
        size = _size(first) * max([_AMPLIFIERS[name], *map(_extent, others)])
    if size > MAX_WORK:
        raise SecurityError(f"the template makes something that could be huge or take long ({name})")


def _extent(argument: Any) -> int:
    """How much an argument can enlarge the result: a width by its value, all else by its size."""
    return abs(argument) if isinstance(argument, int) else _size(argument)


def _formatted_size(template: str, values: Any) -> int:
    if _COMPUTED_WIDTH.search(template):
        return MAX_WORK + 1
    widths = sum(int(digits) for digits in re.findall(r"\d{1,9}", template))
    return widths + (template.count("%") + template.count("{")) * _size(values)


def _metered(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of Jinja2's that asks first, gives a list instead of an iterator, and has its result weighed."""

    @wraps(function)  # takes over the mark that says what Jinja2 passes first
    def metered(*args: Any, **kwargs: Any) -> Any:
        _allow(name, *(each for each in (*args, *kwargs.values()) if not isinstance(each, _PASSED_BY_JINJA)))
        made = function(*args, **kwargs)
        return _weighed(list(made) if isinstance(made, Iterator) else made)

    return metered


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(optimized=False)
        self.globals.pop("lipsum")  # text of any length, and of no use in a prompt
        metered = {name: _metered(name, function) for name, function in self.filters.items()}
        self.filters = {**metered, "weighed": _weighed}  # the rewritten tree is full of the latter

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:
        """What the template, a macro or a block puts out."""
        return str(_weighed("".join(map(_weighed, pieces))))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        first, other = (right, left) if operator == "*" and isinstance(left, int) else (left, right)
        if operator == "**" or not isinstance(first, (int, float)):
            _allow(operator, first, other)
        return _weighed(super().call_binop(context, operator, left, right))

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        method = getattr(obj, "__wrapped__", obj)  # the sandbox wraps str.format
        _allow(getattr(method, "__name__", ""), getattr(method, "__self__", None), *args, *kwargs.values())
        return _weighed(super().call(context, obj, *args, **kwargs))


class _Charging(NodeTransformer):
    """Has every turn of a loop charged, and every value that is put together."""

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        self.generic_visit(node, *args, **kwargs)
        match node:
            case nodes.For():
                turn = _filtered(nodes.Const("turn"))
                node.body.insert(0, nodes.ExprStmt(turn))
                node.test = node.test and nodes.And(turn, node.test)
            case nodes.Concat():
                return _filtered(_filtered(nodes.List(node.nodes)), "join")
            case nodes.List() | nodes.Dict() | nodes.Tuple(ctx="load"):
                return _filtered(node)
        return node


def _filtered(node: nodes.Expr, name: str = "weighed") -> nodes.Expr:
    return nodes.Filter(node, name, [], [], None, None)


_SANDBOX = _Sandbox()


@lru_cache(maxsize=64)
def _compiled(source: str) -> Template:
    if any(islice(_SANDBOX.lex(source), MAX_TOKENS, None)):
        raise SecurityError(f"the template has more than {MAX_TOKENS} parts")
    tree = _SANDBOX.parse(source)
    _Charging().visit(tree)
    tree.set_lineno(1).set_environment(_SANDBOX)
    return _SANDBOX.from_string(tree)

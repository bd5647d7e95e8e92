"""Render one template in a sandbox that bounds what it makes and how long it works.

Jinja2's sandbox keeps a template from private attributes and from changing what it is given, but does not bound its
work. So the syntax tree is rewritten before it is compiled: every turn of a loop, every piece of output and every value
put together is charged to a meter. Operators, filters and methods whose result can be much larger than what they are
given are asked about before they run. Nothing here needs signals or another thread.

What is bounded is the template. Functions and objects that the program itself puts in the context are the program's.
"""

import re
import time
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from contextvars import ContextVar
from functools import lru_cache, wraps
from math import prod
from typing import Any

from jinja2 import Environment, Template, TemplateError, TemplateRuntimeError, TemplateSyntaxError, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_VALUE = 1024 * 1024  # characters or elements in one value, and in the result
MAX_WORK = 16 * MAX_VALUE  # characters and elements made along the way
MAX_SECONDS = 0.1  # of this thread's processor time
MAX_WIDTH = 65_536  # of what is centred, indented, sliced ...
MAX_TOKENS = 4000  # which bounds the time that compiling takes

# What can give a result as large as the product of two of its arguments, or as a number among them says.
_AMPLIFIERS = frozenset({
    "batch", "center", "expandtabs", "indent", "join", "ljust", "replace", "rjust", "round", "slice",
    "to_bytes", "tojson", "translate", "wordwrap", "zfill",
})  # fmt: skip
_SLOW = frozenset({"title", "urlize", "wordwrap"})  # a third of a microsecond for each character
_BUILTINS = (str, bytes, int, float, list, tuple, dict, set, frozenset)
_ELEMENTS = (list, tuple, set, frozenset, KeysView, ValuesView, ItemsView)
_CHARGED = "charged"  # the filter that the rewritten tree is full of
_PASSED_BY_JINJA = (Context, nodes.EvalContext, Environment)
_COMPUTED_WIDTH = re.compile(r"%[-+ #0]*(?:\d*\.)?\*|\{[^{}]*:[^{}]*\{")


def render(source: str, context: Mapping[str, Any], where: str, clock: Callable[[], float] = time.thread_time) -> str:
    """The text that `source` makes of `context`; every failure is a jinja2.TemplateError that begins with `where`."""
    before = _METER.set(_Meter(clock))
    try:
        return "".join(_capped(_compiled(source).generate(context)))
    except TemplateError as error:
        error.args = (f"{where}: {error.message}{_hint(error)}", *error.args[1:])
        raise
    except Exception as error:  # a template can make anything raise, down to the parser's recursion
        raise TemplateRuntimeError(f"{where}: {type(error).__name__}: {error}") from error
    finally:
        _METER.reset(before)


def _hint(error: TemplateError) -> str:
    return " (wrap text that is not a template in Verbatim)" if isinstance(error, TemplateSyntaxError) else ""


def _capped(pieces: Iterator[str]) -> Iterator[str]:
    left = MAX_VALUE
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise SecurityError(f"the template makes more than {MAX_VALUE} characters")
        yield piece


class _Meter:
    """What one rendering may still make, and until when."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.deadline = clock() + MAX_SECONDS
        self.left = MAX_WORK

    def charge(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise SecurityError(f"the template makes more than {MAX_WORK} characters along the way")
        if self.clock() > self.deadline:
            raise SecurityError(f"the template works for more than {MAX_SECONDS} seconds")


_METER: ContextVar[_Meter] = ContextVar("_METER")


def _size(value: Any) -> int:
    """The size of everything in `value`, charged while it is counted, so that no nesting is too much to count."""
    meter, total, pending = _METER.get(), 0, [value]
    while pending:
        item = pending.pop()
        size = 1 + _own_size(item)
        meter.charge(size)
        total += size
        if total > MAX_VALUE + 1:
            raise SecurityError(f"the template makes a value of more than {MAX_VALUE} characters or elements")
        if isinstance(item, dict):
            pending += item.items()
        elif isinstance(item, _ELEMENTS):
            pending += item
    return total


def _own_size(value: Any) -> int:
    match value:
        case str() | bytes() | range():
            return len(value)
        case int():
            return value.bit_length() ** 2 >> 10  # printing and multiplying take quadratic time
        case _:
            return 0


def _weighed(value: Any) -> Any:
    _size(value)
    return value


@pass_context  # asks for the context only so that nothing is computed while compiling
def _charged(_: Context, value: Any) -> Any:
    return _weighed(value)


def _allow(name: str, arguments: list[Any]) -> None:
    """Refuse a call that could make something huge, or take long, before it does."""
    if name in _SLOW:
        _allow_size(64 * _size(arguments[0]))
    if name in {"format", "format_map"}:
        _allow_size(_formatted_size(*arguments))
    elif name == "sum" and any(isinstance(argument, _ELEMENTS) for argument in arguments[1:]):
        _allow_size(_size(arguments[0]) ** 2 >> 4)  # lists are added one by one, and copied each time
    elif name in _AMPLIFIERS:
        extents = [_size(arguments[0]), *map(_extent, arguments[1:])]
        _allow_size(prod(sorted(extents)[-2:]))


def _allow_size(size: int) -> None:
    if size > MAX_WORK:
        raise SecurityError("the template asks for something that could be huge or take long")


def _extent(argument: Any) -> int:
    """How much an argument can enlarge the result: a width by its value, all else by its size."""
    if not isinstance(argument, int):
        return _size(argument)
    return abs(argument) if abs(argument) <= MAX_WIDTH else MAX_WORK + 1


def _formatted_size(template: Any, *values: Any) -> int:
    text = str(template)
    if _COMPUTED_WIDTH.search(text):
        raise SecurityError("the template computes the width of a formatted value")
    widths = sum(int(digits) for digits in re.findall(r"\d{1,9}", text))
    return len(text) + widths + (text.count("%") + text.count("{")) * _size(values)


def _operation_size(operator: str, left: Any, right: Any) -> int:
    match operator, left, right:
        case "%", str() | bytes(), _:
            return _formatted_size(left, right)
        case "*", int(), int():
            return left.bit_length() * right.bit_length() >> 10
        case "*", int(), _:
            return abs(left) * _size(right)
        case "*", _, int():
            return _size(left) * abs(right)
        case "**", int(), int():
            return (left.bit_length() * abs(right)) ** 2 >> 10
        case _:
            return 1


def _counted(name: str, argument: Any) -> Any:
    """What is joined, as a list, since an iterator does not say how much it will give."""
    if name == "join" and isinstance(argument, Iterable) and not isinstance(argument, str):
        return list(argument)
    return argument


def _metered(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of Jinja2's that asks first, and has its result weighed."""

    @wraps(function)  # takes over the mark that says what Jinja2 passes first
    def metered(*args: Any, **kwargs: Any) -> Any:
        args = tuple(_counted(name, argument) for argument in args)
        _allow(name, [each for each in (*args, *kwargs.values()) if not isinstance(each, _PASSED_BY_JINJA)])
        return _weighed(function(*args, **kwargs))

    return metered


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(optimized=False, extensions=[_TokenCount])
        self.globals.pop("lipsum")  # text of any length, and of no use in a prompt
        self.filters = {name: _metered(name, function) for name, function in self.filters.items()}
        self.filters[_CHARGED] = _charged

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _allow_size(_operation_size(operator, left, right))
        return _weighed(super().call_binop(context, operator, left, right))

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        method = getattr(obj, "__wrapped__", obj)  # the sandbox wraps str.format
        receiver = getattr(method, "__self__", None)
        if isinstance(receiver, _BUILTINS):
            args = tuple(_counted(method.__name__, argument) for argument in args)
            _allow(method.__name__, [receiver, *args, *kwargs.values()])
        return _weighed(super().call(context, obj, *args, **kwargs))


class _TokenCount(Extension):
    """Refuses a template of which the compilation alone would take long."""

    def filter_stream(self, stream: TokenStream) -> Iterable[Token]:
        for number, token in enumerate(stream):
            if number > MAX_TOKENS:
                raise SecurityError(f"the template has more than {MAX_TOKENS} parts")
            yield token


class _Charging(NodeTransformer):
    """Puts a charge on every turn of a loop, every output and every value that is put together."""

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        self.generic_visit(node, *args, **kwargs)
        match node:
            case nodes.For():
                node.body.insert(0, nodes.ExprStmt(_turn(node), lineno=node.lineno))
                node.test = node.test and nodes.And(_turn(node), node.test, lineno=node.lineno)
            case nodes.Output():
                node.nodes = [_charge(child) for child in node.nodes]
            case nodes.Tuple(ctx="store"):
                pass  # names to be assigned
            case nodes.Concat() | nodes.List() | nodes.Tuple() | nodes.Dict():
                return _charge(node)
        return node


def _turn(loop: nodes.For) -> nodes.Expr:
    return _charge(nodes.Const("turn", lineno=loop.lineno))


def _charge(node: nodes.Expr) -> nodes.Expr:
    return nodes.Filter(node, _CHARGED, [], [], None, None, lineno=node.lineno)


_SANDBOX = _Sandbox()


@lru_cache(maxsize=64)
def _compiled(source: str) -> Template:
    if len(source) > MAX_VALUE:
        raise SecurityError(f"the template is longer than {MAX_VALUE} characters")
    tree = _SANDBOX.parse(source)
    _Charging().visit(tree)
    tree.set_environment(_SANDBOX)
    return _SANDBOX.from_string(tree)

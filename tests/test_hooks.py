"""Rules of hooks."""

import copy
import functools
import operator
import pickle
import threading
import warnings
import weakref

import pytest

from instructor.hooks import HookName, Hooks


class Heard(list):
    """A listener that remembers what it was told."""

    def __call__(self, *args, **kwargs):
        self.append((args, kwargs))


@pytest.fixture
def heard():
    """A listener that has heard nothing yet."""
    return Heard()


@pytest.mark.parametrize("name", [HookName.PARSE_ERROR, "parse:error"])
def test_a_handler_is_called_with_what_is_emitted(heard, name):
    """A handler is named by the enum or its text, and gets the arguments as they are."""
    hooks = Hooks()
    hooks.on(name, heard)

    hooks.emit(name, 1, attempt_number=2)

    assert heard == [((1,), {"attempt_number": 2})]


@pytest.mark.parametrize(
    ("emit", "name", "args", "kwargs"),
    [
        ("emit_completion_arguments", "completion:kwargs", (), {"model": "m"}),
        ("emit_completion_response", "completion:response", ("r",), {}),
        ("emit_completion_error", "completion:error", ("e",), {"attempt_number": 1}),
        ("emit_completion_last_attempt", "completion:last_attempt", ("e",), {"attempt_number": 1}),
        ("emit_completion_usage", "completion:usage", ("u",), {"attempt_number": 1}),
        ("emit_parse_error", "parse:error", ("e",), {"attempt_number": 1}),
    ],
)
def test_every_hook_has_its_own_way_to_be_emitted(heard, emit, name, args, kwargs):
    """Each hook has a method that emits it, and only it."""
    hooks = Hooks()
    for other in HookName:
        hooks.on(other, heard if other == name else lambda *_args, **_kwargs: pytest.fail("the wrong hook"))

    getattr(hooks, emit)(*args, **kwargs)

    assert [(args, kwargs)] == heard


def test_handlers_are_called_in_order_and_as_often_as_added():
    """Handlers are called in the order in which they were added; one added twice is called twice."""
    hooks, calls = Hooks(), []
    first, second = (functools.partial(calls.append, name) for name in "ab")
    for handler in (first, second, first):
        hooks.on("parse:error", lambda _error, handler=handler: handler())

    hooks.emit_parse_error(ValueError())

    assert calls == ["a", "b", "a"]


def test_off_takes_one_away(heard):
    """`off` takes a handler off once; one that was never on is no error."""
    hooks = Hooks()
    hooks.on("parse:error", heard)
    hooks.on("parse:error", heard)

    hooks.off("parse:error", heard)
    hooks.off("parse:error", print)
    hooks.off("completion:kwargs", heard)
    hooks.emit_parse_error(ValueError())

    assert len(heard) == 1


@pytest.mark.parametrize(("name", "left"), [("parse:error", 1), (None, 0), ("completion:usage", 2)])
def test_clear_takes_all_away(heard, name, left):
    """`clear` takes the handlers off one hook, or off all; a hook without handlers is no error."""
    hooks = Hooks()
    hooks.on("parse:error", heard)
    hooks.on("completion:response", heard)

    hooks.clear(name)
    hooks.emit_parse_error(ValueError())
    hooks.emit_completion_response("r")

    assert left == len(heard)


@pytest.mark.parametrize("use", ["on", "off", "clear", "emit", "get_hook_name"])
def test_an_unknown_name_is_refused(use):
    """An unknown name is a ValueError that shows the known ones."""
    arguments = ("nonsense", print) if use in {"on", "off"} else ("nonsense",)

    with pytest.raises(ValueError, match=r"Invalid hook name: nonsense .*parse:error"):
        getattr(Hooks(), use)(*arguments)


def test_an_error_of_a_handler_becomes_a_warning(heard):
    """What a handler raises is warned about, with its traceback, and the others are still called."""

    def broken(*_args, **_kwargs):
        raise RuntimeError("bang")

    hooks = Hooks()
    hooks.on("parse:error", broken)
    hooks.on("parse:error", heard)

    with pytest.warns(UserWarning, match=r"Error in parse:error handler:\n(?s:.*)RuntimeError: bang"):
        hooks.emit_parse_error(ValueError())

    assert len(heard) == 1


def test_what_ends_a_program_is_not_held_back():
    """KeyboardInterrupt and SystemExit pass."""

    def interrupted(_error):
        raise KeyboardInterrupt

    hooks = Hooks()
    hooks.on("parse:error", interrupted)

    with pytest.raises(KeyboardInterrupt):
        hooks.emit_parse_error(ValueError())


@pytest.mark.parametrize(
    ("handler", "kept"),
    [
        (lambda heard, error: heard(error), {}),
        (lambda heard, error, attempt_number=None: heard(error), {}),
        (lambda heard, error, *, attempt_number, is_last_attempt: heard(error, n=attempt_number), {"n": 1}),
        (lambda heard, error, **kwargs: heard(error, **kwargs), {"attempt_number": 1, "is_last_attempt": False}),
    ],
)
def test_keywords_that_do_not_fit_are_left_out(heard, handler, kept):
    """A handler gets all keywords when its signature takes them all, and otherwise none."""
    hooks, error = Hooks(), ValueError()
    hooks.on("parse:error", functools.partial(handler, heard))

    hooks.emit_parse_error(error, attempt_number=1, is_last_attempt=False)

    assert [((error,), kept)] == heard


def test_a_handler_without_a_signature_gets_what_is_positional():
    """A built-in that does not say what it takes is called without keywords."""
    hooks = Hooks()
    hooks.on("completion:usage", int)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hooks.emit_completion_usage("7", attempt_number=1)


@pytest.mark.parametrize("add", [operator.add, Hooks.combine, operator.iadd])
def test_hooks_are_added_up(add):
    """`+`, `+=` and `combine` put the handlers of the right after those of the left."""
    left, right, calls = Hooks(), Hooks(), []
    left.on("parse:error", lambda _error: calls.append("left"))
    right.on("parse:error", lambda _error: calls.append("right"))

    add(left, right).emit_parse_error(ValueError())

    assert calls == ["left", "right"]


def test_only_adding_in_place_changes_what_is_added_to(heard):
    """`+` and `copy` make new hooks; `+=` changes the left ones and nothing else."""
    left, right = Hooks(), Hooks()
    right.on("parse:error", heard)

    _ = left + right
    right.copy().on("completion:usage", heard)
    assert not left.any(HookName.PARSE_ERROR)
    assert not right.any(HookName.COMPLETION_USAGE)

    same = left
    left += right
    left.clear()
    assert same is left
    assert right.any(HookName.PARSE_ERROR)


def test_only_hooks_can_be_added():
    """Anything else is a TypeError."""
    with pytest.raises(TypeError, match="unsupported operand"):
        _ = Hooks() + 3
    with pytest.raises(TypeError, match="unsupported operand"):
        operator.iadd(Hooks(), 3)
    with pytest.raises(TypeError, match="Expected Hooks instance, got <class 'NoneType'>"):
        Hooks.combine(Hooks(), None)


def test_whether_anybody_listens_is_known_beforehand(heard):
    """`any` says whether emitting would call somebody."""
    hooks = Hooks()
    assert not hooks.any(HookName.PARSE_ERROR)

    hooks.on("parse:error", heard)
    assert hooks.any(HookName.PARSE_ERROR)

    hooks.off("parse:error", heard)
    assert not hooks.any(HookName.PARSE_ERROR)


def test_a_handler_may_change_the_hooks_that_call_it(heard):
    """Who is called is decided when the hook fires; what a handler adds or takes off counts from the next time."""
    hooks = Hooks()
    hooks.on("parse:error", lambda _error: hooks.clear())
    hooks.on("parse:error", heard)

    hooks.emit_parse_error(ValueError())
    hooks.emit_parse_error(ValueError())

    assert len(heard) == 1


def test_threads_can_add_handlers_at_once():
    """No handler is lost when several threads add theirs."""
    hooks, heard = Hooks(), Heard()
    threads = [
        threading.Thread(target=lambda: [hooks.on("completion:response", heard) for _ in range(100)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    hooks.emit_completion_response("r")

    assert len(heard) == 800


def test_hooks_can_be_copied_and_pickled():
    """Hooks hold nothing that ties them to a process."""
    hooks = Hooks()
    hooks.on("parse:error", print)

    assert pickle.loads(pickle.dumps(hooks)).any(HookName.PARSE_ERROR)  # noqa: S301 - our own bytes
    assert copy.deepcopy(hooks).any(HookName.PARSE_ERROR)


@pytest.mark.parametrize("kwargs", [{"age": 1, "stale": True}, {"age": 1}, {"age": 2, "stale": True}], ids=str)
def test_a_signature_is_looked_at_once_and_holds_nothing(kwargs):
    """Each set of keywords has an answer of its own, and a handler that nobody keeps is gone."""
    heard = []

    def handler(key, age):
        heard.append((key, age))

    hooks, seen = Hooks(), weakref.ref(handler)
    hooks.on("cache:hit", handler)
    for _ in range(2):
        hooks.emit("cache:hit", "k", **kwargs)
        hooks.emit("cache:hit", "k", age=0)
    del handler
    hooks.clear()

    assert heard == [("k", kwargs["age"]), ("k", 0)] * 2
    assert seen() is None


def test_methods_of_one_class_are_told_apart(heard):
    """What is known of a method's signature is known of it for every object."""
    hooks = Hooks()
    for name in ("cache:hit", "cache:miss"):
        hooks.on(name, Listening(heard).hit)

        hooks.emit(name, "k", age=1, stale=True)

    assert heard == [(("k",), {"age": 1})] * 2


class Listening:
    """Somebody with a method that takes one keyword."""

    def __init__(self, heard):
        self.heard = heard

    def hit(self, key, age):
        """Hear of a hit."""
        self.heard(key, age=age)

"""Rules of rendering, splitting and folding messages."""

import copy
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import TemplateError, TemplateRuntimeError, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import SecurityError
from pydantic import BaseModel

from instructor import templates
from instructor.messages import Verbatim, fold, render, split_system


def rendered(text, /, **context):
    """What one user message becomes."""
    return render([{"role": "user", "content": text}], context or {"x": 1})[0]["content"]


@pytest.mark.parametrize("context", [None, {}])
def test_without_a_context_nothing_is_touched(context):
    """Without a context, or with an empty one, the very same object comes back."""
    messages = [{"role": "user", "content": "  {{ x }}"}]

    assert messages is render(messages, context)


def test_jinja_is_loaded_by_the_first_template():
    """Importing this module, and rendering what holds no template, does not load Jinja2."""
    script = (
        "import sys; from instructor.messages import render; render([{'role': 'user', 'content': 'hi'}], {'x': 1});"
        "assert 'jinja2' not in sys.modules; render(['{{ x }}'], {'x': 1}); assert 'jinja2' in sys.modules"
    )

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("Extract from: {{ text }}", "Extract from: Ann is 30."),
        ("{% for name in names %}{{ loop.index }}/{{ loop.length }} {{ name }};{% endfor %}", "1/2 Bo;2/2 Al;"),
        ("{% for name in names if name != 'Bo' %}{{ name }}{% else %}nobody{% endfor %}", "Al"),
        ("{% if missing %}a{% else %}b{% endif %}{{ missing }}", "b"),
        ("{{ names|sort|join(', ') }} {{ ', '.join(names) }}", "Al, Bo Bo, Al"),
        ("{{ 'a' ~ 1 }} {{ '%s-%03d' % ('a', 3) }} {{ '{}|{:>3}'.format(1, 2) }}", "a1 a-003 1|  2"),
        ("{% set n = namespace(s=0) %}{% for i in range(4) %}{% set n.s = n.s + i %}{% endfor %}{{ n.s }}", "6"),
        ("{% macro greet(name, mark='!') %}{{ name }}{{ mark }}{% endmacro %}{{ greet('Bo') }}", "Bo!"),
        ("{% for a in [[1, [2]]] recursive %}{{ loop(a) if a is iterable else a }}{% endfor %}", "12"),
        ("{% for a, b in [(1, 2)] %}{{ b }}{% endfor %}{{ names|batch(1)|list }}", "2[['Bo'], ['Al']]"),
        ("{{ 2 ** 10 }} {{ 3 * 'ab' }} {{ [0] * 2 }} {{ 2 * 3 }} {{ 2.0 ** 2 }}", "1024 ababab [0, 0] 6 4.0"),
        ("{{ 1700000000|default(5) }} {{ 3.14159|round(2) }} {{ 'a'|center(3) }}|", "1700000000 3.14  a |"),
        ("{{ {'a': 1}|tojson(indent=1) }} {{ range(3)|sum }} {{ 'ab'|title }}", '{\n "a": 1\n} 3 Ab'),
        ("{{ [[1], [2]]|sum(start=[]) }}", "[1, 2]"),
        ("<b>{{ '<i>' }}</b>", "<b><i></b>"),
        ("    a {{ names[0] }}\n      b\n", "a Bo\n  b"),
        ("    no template\n      b\n", "no template\n  b\n"),
    ],
)
def test_a_template_is_rendered_and_dedented(template, text):
    """A template sees the context, has the whole of Jinja2's language, and loses its own indentation."""
    assert text == rendered(template, text="Ann is 30.", names=["Bo", "Al"])


def test_every_shape_of_text_is_rendered():
    """Text is rendered in OpenAI's, Anthropic's, Google's and Cohere's messages; all else in them is left alone."""
    image = {"type": "image_url", "image_url": {"url": "{{ x }}"}}
    result = {"type": "tool_result", "content": "{{ x }}"}
    messages = [
        {"role": "system", "content": "{{ x }}", "name": "{{ x }}"},
        {"role": "user", "content": [{"type": "text", "text": "{{ x }}"}, "{{ x }}", image, result]},
        {"role": "user", "parts": [{"text": "{{ x }}"}, {"inline_data": {"data": "{{ x }}"}}]},
        {"role": "USER", "message": "{{ x }}"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "{{ x }}"}]},
        "{{ x }}",
    ]

    assert render(messages, {"x": 1}) == [
        {"role": "system", "content": "1", "name": "{{ x }}"},
        {"role": "user", "content": [{"type": "text", "text": "1"}, "1", image, result]},
        {"role": "user", "parts": [{"text": "1"}, {"inline_data": {"data": "{{ x }}"}}]},
        {"role": "USER", "message": "1"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "1"}]},
        "1",
    ]
    assert render("{{ x }}", {"x": 1}) == "1"


def test_objects_are_left_alone():
    """A message or a part that is an object of an SDK is handed on."""

    class Message(BaseModel):
        role: str = "user"
        content: str = "{{ x }}"

    messages = [Message(), {"role": "user", "content": None}]

    assert messages == render(messages, {"x": 1})


def test_nothing_that_was_given_is_changed():
    """Neither the messages nor the context are changed."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "{% set x = 2 %}{{ x }}"}]}]
    context = {"x": [1]}
    before = copy.deepcopy((messages, context))

    assert render(messages, context)[0]["content"][0]["text"] == "2"
    assert before == (messages, context)


@pytest.mark.fault("H6")
@pytest.mark.parametrize("role", ["assistant", "model", "CHATBOT", "tool", "function"])
def test_what_a_model_or_a_tool_said_is_no_template(role):
    """Messages of the assistant and of tools are never templates."""
    assert render([{"role": role, "content": "{{ secret }}"}], {"secret": "s"})[0]["content"] == "{{ secret }}"


@pytest.mark.fault("H6")
def test_verbatim_text_is_no_template():
    """Text marked as data comes out as it is, an ordinary str, wherever it stands."""
    text = Verbatim("  {{ secret }} {% what")

    assert rendered(text, secret="s") == "  {{ secret }} {% what"
    assert str is type(rendered(text, secret="s"))
    assert [{"type": "text", "text": str(text)}] == rendered([{"type": "text", "text": text}], secret="s")


@pytest.mark.fault("H6")
@given(st.text() | st.sampled_from(["{{ secret }}", "{% for i in range(9) %}", "{{ 7 * 7 }}", "{# #}", "{{ value }}"]))
def test_values_from_the_context_are_not_rendered(value):
    """What the context holds is inserted as it is, whatever it looks like."""
    assert f"<{value}>" == rendered("<{{ value }}>", value=value, secret="s")


@pytest.mark.fault("H6")
@pytest.mark.parametrize(
    "template",
    [
        "{{ items.append(1) }}",
        "{{ things.update({'b': 2}) }}",
        "{{ items.__class__.__mro__ }}",
        "{{ items.__setitem__(0, 9) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ '{0.__class__.__mro__}'.format(items) }}",
    ],
)
def test_a_template_cannot_change_or_escape(template):
    """Changing what the context holds and reaching behind it are refused, and leave the context as it was."""
    context = {"items": [1], "things": {"a": 1}}

    with pytest.raises(SecurityError, match=r"^messages\[0\]: "):
        render([{"role": "user", "content": template}], context)
    assert context == {"items": [1], "things": {"a": 1}}


@pytest.mark.fault("H6")
@pytest.mark.parametrize(
    ("template", "error", "message"),
    [
        ("{{ x", TemplateSyntaxError, "wrap text that is not a template in Verbatim"),
        ("{% what %}", TemplateSyntaxError, "unknown tag"),
        ("{{ missing.name }}", UndefinedError, "'missing' is undefined"),
        ("{{ 1 / 0 }}", TemplateRuntimeError, "ZeroDivisionError"),
        ("{% include 'x' %}", TemplateRuntimeError, "no loader"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", TemplateRuntimeError, "RecursionError"),
    ],
)
def test_an_error_names_the_message(template, error, message):
    """Whatever goes wrong in a template is a jinja2.TemplateError that says in which message, and what."""
    with pytest.raises(error, match=rf"^messages\[1\]: (?s:.*){message}") as caught:
        render(["{{ x }}", {"role": "user", "content": template}], {"x": 1})

    assert isinstance(caught.value, TemplateError)


DOUBLING = "{% set n = namespace(a=SEED) %}{% for i in range(60) %}{% set n.a = STEP %}{% endfor %}{{ n.a }}"
BOMBS = [
    "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "{% for a in range(100000) %}{% for b in range(100000) if false %}{% endfor %}{% endfor %}",
    "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}",
    "{{ 'a' * 10 ** 9 }}",
    "{{ 10 ** 9 * 'a' }}",
    "{{ [0] * 10 ** 9 }}",
    "{{ 9 ** (9 ** 9) }}",
    "{{ 2 ** 60000 * 2 ** 60000 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '%1000000000d'|format(1) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:{}}'.format(1, 1000000000) }}",
    "{{ ('%s' * 1000) % ((big[:100000],) * 1000) }}",
    "{{ 'a'|center(10 ** 9) }}",
    "{{ 'a'.ljust(10 ** 9) }}",
    "{{ big[:100000]|replace('', big[:100000]) }}",
    "{{ big[:100000].replace('a', big[:100000]) }}",
    "{{ ''.join([big] * 100000) }}",
    "{{ big.join(range(100000)|map('string')) }}",
    "{{ range(100000)|join(big) }}",
    "{{ range(100000)|map('center', 60000)|list }}",
    "{{ ([[1]] * 20000)|sum(start=[]) }}",
    "{{ [1]|slice(10 ** 6)|list }}",
    "{{ big|wordwrap }}",
    "{{ {'a': 1}|tojson(indent=10 ** 9) }}",
    "{{ 1.5|round(10 ** 9, 'ceil') }}",
    "{{ dict.fromkeys(range(100000), big)|string }}",
    "{% for i in range(100000) %}" + "x" * 1000 + "{% endfor %}",
    "{% set q %}{% for i in range(100000) %}" + "x" * 1000 + "{% endfor %}{% endset %}",
    DOUBLING.replace("SEED", "'a'").replace("STEP", "n.a ~ n.a"),
    DOUBLING.replace("SEED", "'a'").replace("STEP", "n.a + n.a"),
    DOUBLING.replace("SEED", "'a'").replace("STEP", "[n.a, n.a]"),
    DOUBLING.replace("SEED", "'a'").replace("STEP", "{1: n.a, 2: n.a}"),
    DOUBLING.replace("SEED", "'a'").replace("STEP", "dict(a=n.a, b=n.a)"),
    "{{ big ~ big }}",
    "{{ " + " ~ ".join(["big"] * 1000) + " }}",
    "{{ big|title }}",
    "{% for i in range(25) %}{% set q = big|upper %}{% endfor %}",
    "{{ x }} " * 5000,
    "{{ x }}" + " " * templates.MAX_VALUE,
]


@pytest.mark.fault("H6")
@pytest.mark.parametrize("template", BOMBS, ids=lambda template: template[:40])
def test_a_template_cannot_work_or_grow_without_bounds(template):
    """Loops, macros, operators, filters, methods and formats are stopped after 100 ms of work or at 1 MiB."""
    started = time.thread_time()

    with pytest.raises((SecurityError, TemplateRuntimeError), match=r"^messages\[0\]: "):
        rendered(template, x=1, big="a " * 500_000)

    assert time.thread_time() - started < 10 * templates.MAX_SECONDS


@pytest.mark.fault("H6")
def test_a_rendered_text_is_at_most_a_mebibyte():
    """Text of the context counts too: the result of one template is bounded."""
    half = "y" * (templates.MAX_VALUE // 2)

    assert half + half == rendered("{{ half }}{{ half }}", half=half)
    with pytest.raises(SecurityError, match="more than 1048576 characters"):
        rendered("{{ half }}{{ half }}!", half=half)


@pytest.mark.fault("H6")
def test_the_clock_is_read_between_steps():
    """A template is stopped at the first step after its time is over."""
    ticks = iter([0.0, *[templates.MAX_SECONDS] * 3, templates.MAX_SECONDS * 1.01])

    with pytest.raises(SecurityError, match="works for more than"):
        templates.render("{% for i in range(9) %}{{ i }}{% endfor %}", {"x": 1}, "here", lambda: next(ticks))


def test_threads_do_not_share_a_meter():
    """Each rendering has its own bounds, whatever other threads render at that time."""
    done = []
    threads = [threading.Thread(target=lambda: done.append(rendered("{{ x * 3 }}", x="ab"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert done == ["ababab"] * 8


def test_system_messages_are_split_off():
    """The contents of system and developer messages, in order, and the rest, in order; nothing is changed."""
    parts = [{"type": "text", "text": "b"}]
    user, answer, other = {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}, object()
    messages = [{"role": "system", "content": "a"}, user, {"role": "developer", "content": parts}, answer, other]
    before = list(messages)

    assert (["a", parts], [user, answer, other]) == split_system(messages)
    assert before == messages


def test_neighbours_of_one_role_are_folded():
    """Text is joined by an empty line, parts are put after one another; the given messages stay as they are."""
    part = {"type": "text", "text": "c"}
    messages = [
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b", "name": None},
        {"role": "user", "content": [part]},
        {"role": "assistant", "content": [part]},
        {"role": "assistant", "content": "d"},
    ]
    before = copy.deepcopy(messages)

    assert fold(messages) == [
        {"role": "user", "content": [{"type": "text", "text": "a\n\nb"}, part]},
        {"role": "assistant", "content": [part, {"type": "text", "text": "d"}]},
    ]
    assert before == messages


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "content": "a"},
        {"role": "tool", "content": "a", "tool_call_id": "1"},
        {"role": "assistant", "content": "a", "tool_calls": [{"id": "1"}]},
        {"role": "assistant", "content": None},
        {"role": "user", "content": "a", "name": "Ann"},
        "text",
    ],
)
def test_what_belongs_to_somebody_is_not_folded(message):
    """Messages of tools, calls of tools, and messages that say more than role and content stay alone."""
    assert fold([message, message]) == [message, message]

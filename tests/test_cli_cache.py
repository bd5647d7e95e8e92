"""`instructor cache`: every verb, for people and for programs; and what goes wrong is one line."""

import json
import subprocess
import sys
from inspect import signature

import pytest
from cache_tools import DictCache
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import instructor.cache
from instructor.cache import AutoCache, DiskCache, SealedCache, make_cache_key
from instructor.cache.completion import keep
from instructor.cache.difference import ABSENT, first_difference
from instructor.cache.entry import Entry, seal
from instructor.cli import app
from instructor.cli import cache as cli

KEYS = [f"{number:x}" * 64 for number in range(3)]
VERBS = ["stats", "list", "show", "delete", "prune", "clear", "verify", "export"]


def entry(key, said):
    """A stored answer, as a client writes it."""
    completion = {"choices": [{"message": {"content": said}}]}
    return seal(Entry((said,), keep(completion, "dict"), "gpt-4o", 1_700_000_000.0), key)


@pytest.fixture
def directory(tmp_path):
    """A cache of three entries, one of which expires."""
    place = tmp_path / "cache"
    with DiskCache(place) as cache:
        for number, key in enumerate(KEYS):
            cache.set(key, entry(key, f"answer {number}"), 1000 if number == 0 else None)
    return place


def run(*arguments, given=None):
    """What comes of a command: its exit code, standard output and standard error."""
    done = CliRunner().invoke(app, ["cache", *map(str, arguments)], input=given, catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def told(*arguments, given=None):
    """The exit code and the document of a command that is asked for JSON."""
    code, out, _ = run(*arguments, "--json", given=given)
    return code, json.loads(out)


def snapshot(directory):
    """Everything under a directory, with its contents and times."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None) for path in directory.rglob("*")
    }


def contents(directory):
    """The texts in a cache."""
    with DiskCache(directory) as cache:
        return {key: cache.get(key) for key in cache}


def test_stats_count(directory):
    """Entries and their bytes."""
    code, document = told("stats", directory)

    assert code == 0
    assert document["entries"] == 3
    assert document["bytes"] == sum(len(entry(key, "answer 0")) for key in KEYS)


def test_stats_of_an_empty_cache(tmp_path):
    """Nothing is there, and nothing is listed."""
    with DiskCache(tmp_path) as cache:
        cache.clear()

    assert told("stats", tmp_path)[1]["entries"] == 0
    assert run("list", tmp_path)[0] == 0


def test_list_shows_what_was_used_last(directory):
    """Before the others."""
    with DiskCache(directory) as cache:
        cache.get(KEYS[0])

    _, rows = told("list", directory)

    assert [row["key"] for row in rows] == [KEYS[0], KEYS[2], KEYS[1]]
    assert 900 < rows[0]["ttl"] <= 1000
    assert rows[1]["ttl"] is None


def test_a_list_does_not_wrap_keys(tmp_path):
    """However long they are, and however narrow a terminal is: each entry is one line."""
    keys = ["k" * 200, "word " * 60 + "end"]
    with DiskCache(tmp_path) as cache:
        for key in keys:
            cache.set(key, "text")

    _, out, _ = run("list", tmp_path)

    assert [line.split(" 4 ")[0].strip() for line in out.splitlines()[1:]] == keys[::-1]


@pytest.mark.parametrize("verb", ["show", "delete"])
@pytest.mark.parametrize("place", ["directory", "redis://:sesame@127.0.0.1:1/0"])
def test_a_store_before_its_keys_is_told_to_come_last(directory, verb, place):
    """Without a word of what was given, in which there may be a password."""
    code, _, err = run(verb, directory if place == "directory" else place, KEYS[0])

    assert code == 2
    assert err == (
        "instructor cache: keys come first, and then the store: instructor cache show KEY STORE, or delete KEY STORE\n"
    )


def test_show_shows_what_the_model_said(directory):
    """And the completion around it, and the time left."""
    code, document = told("show", KEYS[0], directory)

    assert code == 0
    assert (document["model"], document["tape"]) == ("gpt-4o", ["answer 0"])
    assert document["completion"]["choices"][0]["message"]["content"] == "answer 0"
    assert 900 < document["ttl"] <= 1000


def test_show_shows_text_that_is_not_ours(directory):
    """As it is."""
    with DiskCache(directory) as cache:
        cache.set("mine", "[bold]free text[/bold]")

    assert told("show", "mine", directory)[1]["text"] == "[bold]free text[/bold]"
    assert "[bold]free text[/bold]" in run("show", "mine", directory)[1]


@pytest.mark.parametrize("verb", ["stats", "list", "show"])
def test_people_get_words(directory, verb):
    """In a table, and no JSON."""
    key = [KEYS[1]] if verb == "show" else []

    code, out, err = run(verb, *key, directory)

    assert (code, err) == (0, "")
    assert {"stats": "entries", "list": "last use", "show": "answer 1"}[verb] in out
    assert '{"' not in out or verb == "show"


def test_delete_deletes_and_tells_what_was_absent(directory):
    """An absent key is exit code 1."""
    assert told("delete", "--yes", KEYS[0], KEYS[1], directory) == (0, {"deleted": 2, "absent": []})
    assert told("delete", "--yes", KEYS[1], KEYS[2], directory) == (1, {"deleted": 1, "absent": [KEYS[1]]})
    assert contents(directory) == {}


def test_delete_deletes_what_bears_a_tag(directory):
    """Keys are not named then; and who destroys is asked."""
    with DiskCache(directory) as cache:
        cache.set(KEYS[0], "text", tags=["user:42"])

    assert run("delete", "--tag", "user:42", directory, given="n\n")[0] == 1
    assert run("delete", "--tag", "user:42", KEYS[1], directory)[::2] == run("delete", directory)[::2]
    assert run("delete", directory) == (2, "", "instructor cache: name the keys to delete, or one --tag\n")
    assert told("delete", "--tag", "user:42", "--yes", directory) == (0, {"deleted": 1})
    assert told("delete", "--tag", "user:42", "--yes", directory) == (0, {"deleted": 0})
    assert set(contents(directory)) == set(KEYS[1:])


def test_an_absent_key_is_one_line(directory):
    """And exit code 1."""
    code, out, err = run("show", "nothing", directory)

    assert (code, out) == (1, "")
    assert err == "instructor cache: there is no entry under nothing\n"


def test_prune_deletes_what_has_expired_and_what_is_too_much(directory):
    """The limit is that of the command."""
    with DiskCache(directory) as cache:
        cache.set("large", "x" * 4_000_000)
        cache.set("gone", "text", 1e-6)

    assert told("prune", "--yes", directory) == (0, {"deleted": 1})
    assert told("prune", "--yes", "--size-limit", 3_000_000, directory) == (0, {"deleted": 4})


def test_who_prunes_or_imports_without_a_limit_drops_nothing_for_it(tmp_path):
    """A cache may be used with a larger limit than the usual one."""
    file = tmp_path / "answers.jsonl"
    file.write_text('{"key": "k", "text": "t"}')
    limits = [signature(verb).parameters["size_limit"].default for verb in (cli.prune, cli.opened)]

    assert min(limits) > 2**40
    assert told("import", file, tmp_path / "cache") == (0, {"imported": 1})
    assert told("prune", "--yes", tmp_path / "cache") == (0, {"deleted": 0})


@pytest.mark.parametrize("escape", ["\x1b[", "\x9b"])
@pytest.mark.parametrize("within", ["text", "entry"])
def test_what_a_terminal_would_obey_is_shown_as_json(directory, escape, within):
    """A stored text cannot move the cursor, or rename the window, whether it is a client's or not."""
    text = f"{escape}2J\x1b]0;title\x07"
    with DiskCache(directory) as cache:
        cache.set("mine", entry("mine", text) if within == "entry" else text)

    out = run("show", "mine", directory)[1]

    assert escape not in out
    assert json.dumps(escape)[1:-1] + "2J" in out


def test_a_password_is_not_repeated(monkeypatch):
    """Not in a question, and in no document."""
    monkeypatch.setattr(instructor.cache, "RedisCache", Server)

    code, out, err = run("clear", "redis://:secret@host/0", given="n\n")

    assert (code, out) == (1, "")
    assert "Delete every entry?" in err
    assert "secret" not in err + run("stats", "redis://:secret@host/0")[1]


def test_clear_deletes_everything(directory):
    """In one go."""
    assert told("clear", "-y", directory) == (0, {"cleared": True})
    assert contents(directory) == {}


@pytest.mark.parametrize("answer", ["n\n", "", "\n"])
@pytest.mark.parametrize("verb", ["delete", "prune", "clear"])
def test_what_destroys_asks(directory, verb, answer):
    """Who does not say yes keeps everything; the question is none of a program's output."""
    keys = [KEYS[0]] if verb == "delete" else []

    code, out, err = run(verb, *keys, directory, "--json", given=answer)

    assert (code, out) == (1, "")
    assert "[y/n]" in err
    assert len(contents(directory)) == 3


def test_who_says_yes_is_taken_at_their_word(directory):
    """As with --yes."""
    assert run("clear", directory, given="y\n")[0] == 0
    assert contents(directory) == {}


def test_verify_tells_the_sound_from_the_damaged_and_the_foreign(directory):
    """A text under another key is damaged; what no client wrote is foreign, sealed entries included."""
    with DiskCache(directory) as cache:
        cache.set("mine", "free text")
        SealedCache(cache, bytes(32)).set("sealed", "text")
    assert told("verify", directory) == (0, {"sound": 3, "foreign": 2, "damaged": [], "problems": []})

    with DiskCache(directory) as cache:
        cache.set(KEYS[0], entry(KEYS[1], "answer 1"))
    code, document = told("verify", directory)

    assert code == 1
    assert document == {"sound": 2, "foreign": 2, "damaged": [KEYS[0]], "problems": []}
    assert run("verify", directory)[0] == 1


@pytest.mark.parametrize("by", ["file", "pipe"])
def test_what_is_exported_can_be_imported(directory, tmp_path, by):
    """Texts, keys and the time left come back as they were, whatever the text."""
    file, other = tmp_path / "answers.jsonl", tmp_path / "other"
    with DiskCache(directory) as cache:
        cache.set("mine", 'é "\n\x00🦉\ud800')

    code, out, _ = run("export", directory)
    file.write_text(out)
    again = told("import", file if by == "file" else "-", other, given=out)

    assert code == 0
    assert [set(json.loads(line)) for line in out.splitlines()] == [{"key", "text", "ttl"}] * 4
    assert again == (0, {"imported": 4})
    assert contents(other) == contents(directory)
    with DiskCache(other) as cache:
        assert 900 < cache.remaining(KEYS[0]) <= 1000


def test_an_export_can_be_one_document(directory):
    """For who asks every verb for one; and nothing is an export as well."""
    code, document = told("export", directory)
    run("clear", "-y", directory)

    assert (code, sorted(line["key"] for line in document)) == (0, sorted(KEYS))
    assert run("export", directory) == (0, "", "")
    assert told("import", "-", directory, given="") == (0, {"imported": 0})


@pytest.mark.parametrize(
    "line", ["{", '{"key": "k"}', '{"key": "k", "text": 1}', "[]", '{"key":"k","text":"t","ttl":"x"}']
)
def test_a_line_that_is_no_entry_is_told_by_its_number(tmp_path, line):
    """Exit code 2, and one line."""
    good = '{"key": "k", "text": "t", "ttl": null}\n'

    code, out, err = run("import", "-", tmp_path / "cache", given=good + line)

    assert (code, out) == (2, "")
    assert err.startswith("instructor cache: line 2: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("verb", VERBS)
def test_looking_at_what_is_no_cache_creates_nothing(tmp_path, verb):
    """Neither in a directory nor instead of one; it is one line, and exit code 2."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "file").write_text("text")
    before = snapshot(tmp_path)

    for place in ("docs", "missing", "file"):
        more = {"show": ["k"], "delete": ["k"], "export": []}.get(verb, [])
        code, out, err = run(verb, *more, tmp_path / place)
        assert (code, out) == (2, "")
        assert err == f"instructor cache: {tmp_path / place} is no cache: there is no cache.sqlite3 in it\n"

    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("damage", [b"", b"not a database at all" * 500, "half"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_damaged_file_is_one_line_and_stays_where_it_is(directory, verb, damage):
    """Whoever looks may want to keep it; the next program that uses it moves it aside."""
    file = directory / "cache.sqlite3"
    file.write_bytes(file.read_bytes()[:4096] if damage == "half" else damage)
    before = file.read_bytes()
    more = {"show": ["k"], "delete": ["--yes", "k"], "export": [], "clear": ["-y"], "prune": ["-y"]}.get(verb, [])

    code, _, err = run(verb, *more, directory)

    assert code == 2
    assert err.startswith(f"instructor cache: {file} is damaged (")
    assert err.count("\n") == 1
    assert file.read_bytes() == before
    assert not list(directory.glob("*.corrupt-*"))


@pytest.mark.fault("A11")
def test_the_file_of_a_later_release_is_left_alone(directory):
    """It is told what to do, and nothing is changed."""
    import sqlite3

    with sqlite3.connect(directory / "cache.sqlite3") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()

    code, _, err = run("stats", directory)

    assert code == 2
    assert "upgrade instructor to read it" in err


def test_looking_changes_no_order_of_use(directory):
    """What was used last is what a program used."""
    before = told("list", directory)[1]

    told("verify", directory)
    told("show", KEYS[1], directory)
    run("export", directory)
    after = told("list", directory)[1]

    assert [(row["key"], row["last use"]) for row in after] == [(row["key"], row["last use"]) for row in before]


class Server(DictCache):
    """What stands in for a server: keys, no sizes, no pruning."""

    texts_of_all = {KEYS[0]: entry(KEYS[0], "from afar")}  # noqa: RUF012

    def __init__(self, url):
        super().__init__()
        self.texts = self.texts_of_all

    def __iter__(self):
        return iter(self.texts)

    def remaining(self, key):
        return 5.5 if key in self.texts else 0

    def close(self):
        pass


class Fleeting(Server):
    """What is read there once is gone."""

    def get(self, key):
        return self.texts.pop(key, None)

    def __init__(self, url):
        super().__init__(url)
        self.texts = dict(self.texts)

    def __iter__(self):
        return iter(list(self.texts))


def test_what_goes_while_it_is_looked_at_is_neither_damaged_nor_exported(monkeypatch):
    """Others go on using a cache meanwhile."""
    monkeypatch.setattr(instructor.cache, "RedisCache", Fleeting)

    assert told("verify", "redis://localhost") == (0, {"sound": 0, "foreign": 0, "damaged": [], "problems": []})
    assert run("export", "redis://localhost") == (0, "", "")


def test_a_url_is_a_server(monkeypatch):
    """The same verbs work there; pruning is its own affair."""
    monkeypatch.setattr(instructor.cache, "RedisCache", Server)

    assert told("stats", "redis://localhost")[1]["entries"] == 1
    assert told("list", "redis://localhost")[1][0] == {"key": KEYS[0], "bytes": 228, "last use": None, "ttl": 5.5}
    assert told("verify", "redis://localhost")[1]["sound"] == 1
    assert run("prune", "-y", "redis://localhost")[::2] == (
        2,
        "instructor cache: a server does this by itself: see its maxmemory-policy\n",
    )


def explained(tmp_path, one, other):
    """What `explain` says of two requests."""
    files = [tmp_path / "one.json", tmp_path / "other.json"]
    for file, request in zip(files, (one, other), strict=True):
        file.write_text(json.dumps(request))
    return told("explain", *files)


MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "John is 25"}]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"timeout": 3, "user": "ann", "max_retries": 1, "cache_ttl": 7, "temperature": 0.0, "mode": "TOOLS"}, None),
        ({"extra_headers": {"X-Request-Id": "7"}}, None),
        ({"strict": True, "system": None, "context": None}, None),
        ({"temperature": 1}, {"path": "temperature", "one": 0.0, "other": 1.0}),
        ({"seed": 1}, {"path": "seed", "other": 1}),
        ({"seed": None}, {"path": "seed", "other": None}),
        ({"mode": "json_mode"}, {"path": "mode", "one": "tool_call", "other": "json_mode"}),
        ({"context": {"a": 1}, "top_p": 1}, {"path": "top_p", "other": 1.0}),
        ({"context": {"a": 1}}, {"path": "context", "other": {"a": 1}}),
        ({"strict": False}, {"path": "strict", "one": True, "other": False}),
        ({"messages": MESSAGES[:1]}, {"path": "messages[1]", "one": MESSAGES[1]}),
        (
            {"messages": [MESSAGES[0], {"role": "user", "content": "John is 26"}]},
            {"path": "messages[1].content", "one": "John is 25", "other": "John is 26"},
        ),
        ({"tools": [{"n": 1}, {"n": 1.0}]}, {"path": "tools", "other": [{"n": 1}, {"n": 1.0}]}),
    ],
)
def test_explain_shows_the_first_difference(tmp_path, change, expected):
    """The path and both values, and only of what counts; exit code 1 where there is one."""
    request = {"model": "gpt-4o", "messages": MESSAGES, "temperature": 0, "mode": "tool_call"}

    code, document = explained(tmp_path, request, {**request, **change})

    assert document == ({"shared": True} if expected is None else {"shared": False, **expected})
    assert code == (expected is not None)


def test_explain_shows_people_texts_in_quotes(tmp_path):
    """1 is not "1"."""
    files = [tmp_path / "one.json", tmp_path / "other.json"]
    files[0].write_text('{"seed": 1}')
    files[1].write_text('{"seed": "1"}')

    assert '"1"' in run("explain", *files)[1]


@pytest.mark.parametrize("text", ["", "{", "[]", "7"])
def test_explain_takes_objects_only(tmp_path, text):
    """Anything else is one line, and exit code 2."""
    file = tmp_path / "one.json"
    file.write_text(text)

    assert run("explain", file, file)[0] == 2
    assert run("explain", file, tmp_path / "missing.json")[0] == 2


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.0, -0.0, 1.0, 0.5])
    | st.sampled_from(["", "a", "1"]),
    lambda inside: st.lists(inside, max_size=2) | st.dictionaries(st.sampled_from("ab"), inside, max_size=2),
    max_leaves=5,
)
REQUESTS = st.fixed_dictionaries(
    {"messages": JSON, "model": st.sampled_from(["m", "n"])},
    optional={
        "temperature": JSON,
        "timeout": JSON,
        "seed": JSON,
        "mode": st.sampled_from(["TOOLS", "tool_call", "JSON"]),
        "system": JSON,
        "extra_headers": st.just({"x-request-id": "1"}) | st.just({"X-Org": "1"}),
    },
)


@given(REQUESTS, REQUESTS)
def test_there_is_a_difference_exactly_where_there_are_two_keys(one, other):
    """`explain` never contradicts the key that clients use."""
    keys = [
        make_cache_key(
            **{name: request.get(name) for name in ("messages", "model", "system", "mode")},
            response_model=None,
            request_kwargs=request,
        )
        for request in (one, other)
    ]

    assert (first_difference(one, other) is None) == (keys[0] == keys[1])


def test_what_is_absent_says_so():
    """In a traceback as in a table."""
    assert repr(ABSENT) == "(absent)"


def test_memory_can_be_iterated():
    """As every cache that is looked into."""
    cache = AutoCache()
    cache.set("k", "text")

    assert list(cache) == ["k"]


def test_who_stops_reading_an_export_gets_no_traceback(directory):
    """As with `| head -1`."""
    with DiskCache(directory) as cache:
        cache.set("large", "x" * 2**20)
    command = [sys.executable, "-m", "instructor", "cache", "export", directory]

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        program.stdout.read(10)
        program.stdout.close()
        err = program.stderr.read()

    assert err == ""


def test_the_program_itself(directory, tmp_path):
    """`python -m instructor cache` prints one JSON document and nothing else; trouble is one line and no traceback."""
    command = [sys.executable, "-m", "instructor", "cache", "stats", "--json"]

    done = subprocess.run([*command, directory], capture_output=True, text=True, check=True)
    failed = subprocess.run([*command, tmp_path], capture_output=True, text=True, check=False)

    assert json.loads(done.stdout)["entries"] == 3
    assert done.stderr == ""
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.count("\n") == 1

"""The parts of the cache alone, without any API: `python test_simple.py`, or pytest."""

from __future__ import annotations

import pickle
import tempfile
import threading
from typing import Any

from pydantic import BaseModel, Field

from instructor.cache import AutoCache, BaseCache, DiskCache, make_cache_key

QUESTION: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Extract: John is 25"}],
    "model": "gpt-4o-mini",
    "mode": "TOOLS",
}


class User(BaseModel):
    """Somebody."""

    name: str
    age: int


def test_equal_questions_have_equal_keys() -> None:
    """A key is 64 hexadecimal digits, the same whenever and in whatever order the question is written."""
    key = make_cache_key(**QUESTION, response_model=User)
    turned = {**QUESTION, "messages": [{"content": "Extract: John is 25", "role": "user"}]}

    assert make_cache_key(**turned, response_model=User) == key
    assert len(bytes.fromhex(key)) == 32


def test_another_question_has_another_key() -> None:
    """The prompt, the model, the mode and the schema with its descriptions: each counts."""

    class Described(BaseModel):
        """Somebody."""

        name: str = Field(description="first name only")
        age: int

    questions: list[dict[str, Any]] = [
        {"response_model": User},
        {"response_model": Described},
        {"response_model": User, "messages": [{"role": "user", "content": "Extract: Jane is 30"}]},
        {"response_model": User, "model": "gpt-4o"},
        {"response_model": User, "mode": "JSON"},
    ]

    assert len({make_cache_key(**{**QUESTION, **question}) for question in questions}) == len(questions)


def test_auto_cache_forgets_what_was_used_longest_ago() -> None:
    """Reading an answer keeps it."""
    cache = AutoCache(maxsize=2)
    cache.set("a", "1")
    cache.set("b", "2")
    cache.get("a")
    cache.set("c", "3")

    assert [cache.get(key) for key in "abc"] == ["1", None, "3"]


def test_auto_cache_ignores_ttl_unless_told_otherwise() -> None:
    """With `honor_ttl=True` an answer is gone when its time is up."""
    now = [0.0]
    caches = [AutoCache(clock=lambda: now[0]), AutoCache(honor_ttl=True, clock=lambda: now[0])]
    for cache in caches:
        cache.set("key", "text", ttl=60)
    now[0] = 61.0

    assert [cache.get("key") for cache in caches] == ["text", None]


def test_disk_cache_remembers_and_expires() -> None:
    """Another object on the same directory finds the text, until its time is up."""
    now = [1_700_000_000.0]
    with tempfile.TemporaryDirectory() as folder:
        with DiskCache(directory=folder, clock=lambda: now[0]) as cache:
            cache.set("key", "text", ttl=60)
        with DiskCache(directory=folder, clock=lambda: now[0]) as cache:
            found = cache.get("key")
            now[0] += 61
            expired = cache.get("key")

    assert [found, expired] == ["text", None]


def test_caches_are_safe_for_threads() -> None:
    """Eight threads write and read at once: every answer read is whole, and the bound holds."""
    cache, wrong = AutoCache(maxsize=10), []

    def work(name: int) -> None:
        for turn in range(300):
            key = str((name + turn) % 20)
            cache.set(key, key * 100)
            if cache.get(key) not in {None, key * 100}:
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert len(cache) == 10


def test_a_cache_of_your_own_is_two_methods() -> None:
    """`BaseCache` asks for `get` and `set`, and for nothing else."""

    class DictCache(BaseCache):
        def __init__(self) -> None:
            self.texts: dict[str, Any] = {}

        def get(self, key: str) -> Any | None:
            return self.texts.get(key)

        def set(self, key: str, value: Any, ttl: int | None = None) -> None:  # noqa: ARG002 - kept for ever
            self.texts[key] = value

    cache = DictCache()
    cache.set("key", "text", ttl=60)

    assert cache.get("key") == "text"
    assert cache.get("other") is None


def test_a_cache_travels_to_other_processes() -> None:
    """A cache can be pickled, as `multiprocessing` does."""
    memory = AutoCache(maxsize=3)
    memory.set("key", "text")

    assert pickle.loads(pickle.dumps(memory)).get("key") == "text"  # noqa: S301 - our own bytes


def main() -> None:
    tests = [value for name, value in globals().items() if name.startswith("test_")]
    for test in tests:
        test()
        print(f"ok  {test.__name__}")
    print(f"{len(tests)} passed")


if __name__ == "__main__":
    main()

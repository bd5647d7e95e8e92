"""What the tests of the stores share: a clock to set, a user's cache, texts that name their key, child processes."""

import hashlib
import os
import random
import signal
import sys
import traceback

from instructor.cache.base import BaseCache


class Clock:
    """Time that stands still until it is set."""

    def __init__(self, now=1_700_000_000.0):
        self.now = now

    def __call__(self):
        return self.now


class DictCache(BaseCache):
    """A user's cache: two methods round a dict."""

    def __init__(self):
        self.texts = {}

    def get(self, key):
        return self.texts.get(key)

    def set(self, key, value, ttl=None):
        self.texts[key] = value


def chance(seed):
    """Numbers that are the same in every run."""
    return random.Random(seed)  # noqa: S311 - nothing is kept secret with them


def describe(key, text=""):
    """A text that can be told to be whole, and stored under `key`."""
    return f"{hashlib.sha256(f'{key} {text}'.encode()).hexdigest()} {text}"


def describes(key, found):
    """Whether `found` is a whole text of `key`."""
    return found == describe(key, found.partition(" ")[2])


def volume(directory):
    """Bytes that a DiskCache's file takes together with its logs."""
    return sum(path.stat().st_size for path in directory.glob("cache.sqlite3*"))


def fork(work, seconds=30):
    """Start `work` in a child, which ends after `seconds` at the latest and exits with 0 if `work` was true."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(seconds)
            status = 0 if work() else 2
        except BaseException:  # noqa: BLE001 - nothing may climb into the parent's test run
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(status)
    return pid


def wait_for(pid):
    """How the child ended: its exit status, or minus the number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def in_child(work, seconds=30):
    """How a child that does `work` ends."""
    return wait_for(fork(work, seconds))

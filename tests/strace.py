"""A child process whose system calls fail, or kill it, at a chosen moment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from cache_tools import fork, wait_for


@lru_cache
def why_not() -> str:
    """Why no process can be traced here, or nothing."""
    if sys.platform != "linux" or shutil.which("strace") is None:
        return "needs strace"
    done = subprocess.run(["strace", "-e", "inject=getppid:error=EIO", "true"], capture_output=True, check=False)
    return "needs the right to trace processes" if done.returncode else ""


def tampered(work: Callable[[], Any], inject: str, paths: Iterable[Path] = ()) -> tuple[int, bool]:
    """How a child that does `work` ends, and whether a system call was tampered with.

    `inject` is what `strace` takes after `inject=`; with `paths`, only calls that concern these files count.
    """
    if why_not():
        pytest.skip(why_not())
    wait, go = os.pipe()
    pid = fork(lambda: os.read(wait, 1) and work())
    calls = inject.partition(":")[0]
    only = [part for path in paths for part in ("-P", str(path))]
    with tempfile.NamedTemporaryFile() as told:
        command = ["strace", "-f", "-o", told.name, "-p", str(pid), "-e", f"trace={calls}", "-e", f"inject={inject}"]
        with subprocess.Popen([*command, *only], stderr=subprocess.PIPE) as tracer:
            assert tracer.stderr is not None
            assert b"attached" in tracer.stderr.readline()
            os.write(go, b".")
            status = wait_for(pid)
        traced = told.read()
    os.close(wait)
    os.close(go)
    return status, b"INJECTED" in traced or b"killed by" in traced

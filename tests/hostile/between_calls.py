"""Runs something before each system call of the product that looks a name up: an attack at that very instant.

Calls upon descriptors alone are left out; what happens before them happens before the next that takes a name, too.
"""

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from weaviate_backup import beneath, no_links

BY_NAME = frozenset({"open", "stat", "lstat", "link", "rename", "mkdir", "unlink", "rmdir", "listdir", "readlink"})


class _Between:
    """`os` or the C library, but for what happens before."""

    def __init__(self, real: Any, before: Callable[[str], None], names: frozenset[str]) -> None:
        self._real, self._before, self._names = real, before, names

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if name not in self._names:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._before(target_of(name, args, kwargs))
            return found(*args, **kwargs)

        return call


def target_of(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The whole path of what a call is about, with the way its descriptor came."""
    if name == "syscall":
        return os.fsdecode(args[2])
    if isinstance(args[0], int):
        return os.readlink(f"/proc/self/fd/{args[0]}")
    above = kwargs.get("dir_fd", kwargs.get("src_dir_fd"))
    return args[0] if above is None else f"{os.readlink(f'/proc/self/fd/{above}')}/{args[0]}"


class _NoOpenat2:
    """A kernel or a seccomp profile that does not have the call."""

    syncfs = staticmethod(no_links.libc.syncfs)

    def syscall(self, *_: Any) -> int:
        ctypes.set_errno(errno.ENOSYS)
        return -1


@contextmanager
def before_each_call(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[int, str], None], *, openat2: bool = True
) -> Iterator[None]:
    """`act` is told the number of the call that comes, from 0 on, and the path that it is about."""
    lock, calls = threading.RLock(), [0]

    def before(target: str) -> None:
        with lock:
            number, calls[0] = calls[0], calls[0] + 1
            act(number, target)

    with monkeypatch.context() as patch:
        patch.setattr(beneath, "os", _Between(os, before, BY_NAME))
        patch.setattr(no_links, "os", _Between(os, before, BY_NAME))
        library = no_links.libc if openat2 else _NoOpenat2()
        patch.setattr(no_links, "libc", _Between(library, before, frozenset({"syscall"}) if openat2 else frozenset()))
        yield

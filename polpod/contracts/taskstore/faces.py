"""The two faces of a store: one that blocks, for any thread, and one to await, for trio and asyncio.

A method of a store is a function of a transaction, and what follows `tx` is what its caller gives.  `reads` and `writes`
make a method of it for the one face, `awaits_read` and `awaits_write` for the other: there is no other logic in a face.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar

from polpod.store.gate import Gate
from polpod.store.records import Tx

P = ParamSpec("P")
X = TypeVar("X")


class Store(Protocol):
    """A store that any thread may use; each body is a transaction."""

    def read(self, body: Callable[[Tx], X]) -> X: ...
    def write(self, body: Callable[[Tx], X]) -> X: ...
    def close(self) -> None: ...


def _nothing() -> None:
    pass


class Blocking:
    """Over a store that others may use, too.  Closing it closes that, and then calls `after`."""

    def __init__(self, store: Store, after: Callable[[], None] = _nothing) -> None:
        self.store = store
        self._after = after

    def close(self) -> None:
        """Close the store; whoever uses it then gets a StoreError.  A second time does nothing."""
        self.store.close()
        after, self._after = self._after, _nothing
        after()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Awaited:
    """Over a gate that others may use, too.  Closing it closes that, and then calls `after`."""

    def __init__(self, gate: Gate[Tx], after: Callable[[], None] = _nothing) -> None:
        self.gate = gate
        self._after = after

    async def close(self) -> None:
        """Close the store; whoever uses it then gets a StoreError.  A second time does nothing."""
        await self.gate.close()
        after, self._after = self._after, _nothing
        after()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def reads(body: Callable[Concatenate[Tx, P], X]) -> Callable[Concatenate[Blocking, P], X]:
    @wraps(body)
    def method(self: Blocking, /, *args: P.args, **kwargs: P.kwargs) -> X:
        return self.store.read(lambda tx: body(tx, *args, **kwargs))

    return method


def writes(body: Callable[Concatenate[Tx, P], X]) -> Callable[Concatenate[Blocking, P], X]:
    @wraps(body)
    def method(self: Blocking, /, *args: P.args, **kwargs: P.kwargs) -> X:
        return self.store.write(lambda tx: body(tx, *args, **kwargs))

    return method


def awaits_read(body: Callable[Concatenate[Tx, P], X]) -> Callable[Concatenate[Awaited, P], Coroutine[Any, Any, X]]:
    @wraps(body)
    async def method(self: Awaited, /, *args: P.args, **kwargs: P.kwargs) -> X:
        return await self.gate.read(lambda tx: body(tx, *args, **kwargs))

    return method


def awaits_write(body: Callable[Concatenate[Tx, P], X]) -> Callable[Concatenate[Awaited, P], Coroutine[Any, Any, X]]:
    @wraps(body)
    async def method(self: Awaited, /, *args: P.args, **kwargs: P.kwargs) -> X:
        return await self.gate.write(lambda tx: body(tx, *args, **kwargs))

    return method

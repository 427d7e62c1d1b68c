"""What takes several calls, without I/O: a generator of steps, which whoever has a connection takes.

Rules:

1. An `Ask` is a call that may be made again; its answer is sent into the generator.  A `Remark` is for people.  Whatever
   else a generator yields is what its user asked for.
2. So one text serves commands, a client that blocks (`take`) and one that is awaited (polpoctl.asynchronous).
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Any, Protocol, TypeAlias, TypeVar

    T = TypeVar("T")
    Steps: TypeAlias = "Generator[Ask | Remark | T, Any, None]"
    Asking: TypeAlias = "Generator[Ask | Remark, Any, T]"
    """A part of steps, with a result and nothing to give."""

    class Call(Protocol):
        def __call__(self, method: str, params: dict[str, Any], until: float = ...) -> Any: ...


class Ask:
    """A call to make, though not again after `until` on the monotonic clock."""

    __slots__ = ("method", "params", "until")

    def __init__(self, method: str, params: dict[str, Any], until: float = float("inf")) -> None:
        self.method = method
        self.params = params
        self.until = until


class Remark:
    """Something to say beside the data."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def take(steps: Steps[T], call: Call, say: Callable[[str], None]) -> Iterator[T]:
    """Take the steps, and give what they give.  Raises what `call` raises."""
    answer = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration:
            return
        answer = None
        if isinstance(step, Ask):
            answer = call(step.method, step.params, step.until)
        elif isinstance(step, Remark):
            say(step.text)
        else:
            yield step


def unsaid(text: str) -> None:
    """Where nobody is there to hear it."""

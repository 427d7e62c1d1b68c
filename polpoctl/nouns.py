"""The methods of the socket as attributes, `client.task.submit(…)`, and which of them may be made again."""

from __future__ import annotations

from polpod.wire.methods import METHODS, REPEATABLE

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_KEYED = "task.submit"
"""Made again with the same idempotency key, it stores no second task."""


def repeatable(method: str, params: dict[str, Any]) -> bool:
    """Whether it does no harm to make the call again when nobody knows what became of it."""
    return method in REPEATABLE or (method == _KEYED and params.get("idempotency_key") is not None)


class Noun:
    """The methods of one noun.  A verb that Python keeps for itself ends with `_`: `client.approval.await_(…)`."""

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        """Raises AttributeError where there is none of that name."""
        self._verbs = [verb for noun, _, verb in (method.partition(".") for method in METHODS) if noun == name]
        if not self._verbs:
            raise AttributeError(f"no noun {name!r}: polpoctl schema lists the methods")
        self._name = name
        self._call = call

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        if (meant := verb.removesuffix("_")) not in self._verbs:
            raise AttributeError(f"no method {self._name}.{verb}: there are {', '.join(self._verbs)}")
        call, method = self._call, f"{self._name}.{meant}"

        def made(**params: Any) -> Any:
            return call(method, **params)

        return made

    def __dir__(self) -> list[str]:
        return self._verbs

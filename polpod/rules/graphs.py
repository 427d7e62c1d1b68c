"""Whether the graph of a mission document makes sense: every name known, no task waiting for itself, no two names alike.

Linear in the number of tasks and edges, and without recursion: a document may have ten thousand of either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from msgspec import Struct

from polpod.model.documents import DocumentBarrier, MissionDocument

N = TypeVar("N", bound=Hashable)


class Fault(Struct, frozen=True):
    """One thing that is wrong with a document, and where."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


MOST_SHOWN = 20
"""Tasks of a cycle that a message names."""


def faults(document: MissionDocument) -> list[Fault]:
    """Everything that is wrong with it, in the order of the document; a graph with unknown names has no cycles yet."""
    found = [*_names(document), *_dependencies(document), *_barriers(document)]
    if not found and (cycle := find_cycle(waits(document))):
        titles = [name for kind, name in cycle[1:] if kind == "task"]
        number = {task.title: n for n, task in enumerate(document.tasks)}[titles[-1]]
        titles = [titles[-1], *titles]
        shown = titles if len(titles) <= MOST_SHOWN else [*titles[: MOST_SHOWN - 1], "…", titles[0]]
        found.append(Fault(f"$.tasks[{number}].dependsOn", f"a cycle: {' → '.join(shown)}"))
    return found


def waits(document: MissionDocument) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """What each task and each barrier waits for, all by (kind, name), as in Node.

    A barrier is a node of its own: a thousand tasks before it and a thousand behind it are two thousand edges.
    """
    found = {("task", task.title): [("task", on) for on in dict.fromkeys(task.depends_on)] for task in document.tasks}
    for kind, barriers in barriers_by_kind(document).items():
        for barrier in barriers:
            found[kind, barrier.name] = [("task", title) for title in dict.fromkeys(barrier.after_tasks)]
            for title in dict.fromkeys(barrier.blocks_tasks):
                found["task", title].append((kind, barrier.name))
    return found


class Node(Struct, frozen=True):
    """Of a picture of the graph: a task, or a barrier between tasks."""

    kind: str
    """`task`, or the kind of the barrier."""
    name: str
    layer: int
    """The longest chain of nodes that it waits for."""
    after: tuple[int, ...]
    """The nodes that it waits for, by their places in the list."""


def nodes(document: MissionDocument) -> list[Node]:
    """The tasks in the order of the document, then its barriers, each with what it waits for."""
    on = waits(document)
    place = {name: n for n, name in enumerate(on)}
    layer = {name: n for n, names in enumerate(layers(on)) for name in names}
    return [Node(*name, layer[name], tuple(place[other] for other in on[name])) for name in on]


def barriers_by_kind(document: MissionDocument) -> dict[str, tuple[DocumentBarrier, ...]]:
    return {"gate": document.quality_gates, "checkpoint": document.checkpoints, "delay": document.delays}


def find_cycle(waits: Mapping[N, Sequence[N]]) -> list[N] | None:
    """A cycle, from one node through those that it waits for back to itself; None: there is none."""
    done: set[N] = set()
    for start in waits:
        path: dict[N, Iterator[N]] = {}
        node: N | None = start if start not in done else None
        while node is not None:
            path[node] = iter(waits[node])
            node = None
            while path and node is None:
                last = next(reversed(path))
                for following in path[last]:
                    if following in path:
                        names = list(path)
                        return [*names[names.index(following) :], following]
                    if following not in done:
                        node = following
                        break
                else:
                    done.add(last)
                    del path[last]
    return None


def layers(waits: Mapping[N, Sequence[N]]) -> list[list[N]]:
    """The nodes of an acyclic graph by how long a chain they wait for, those that wait for nobody first."""
    waiting = {node: len(on) for node, on in waits.items()}
    dependents: dict[N, list[N]] = {node: [] for node in waits}
    for node, on in waits.items():
        for other in on:
            dependents[other].append(node)
    found: list[list[N]] = []
    layer = [node for node, number in waiting.items() if number == 0]
    while layer:
        found.append(layer)
        following: list[N] = []
        for node in layer:
            for dependent in dependents[node]:
                waiting[dependent] -= 1
                if waiting[dependent] == 0:
                    following.append(dependent)
        layer = following
    return found


def _names(document: MissionDocument) -> Iterator[Fault]:
    yield from _twice("$.tasks", "title", [task.title for task in document.tasks])
    yield from _twice("$.team", "name", [agent.name for agent in document.team])
    barriers = [barrier.name for barrier in document.barriers]
    yield from _twice("$", "name of a gate, checkpoint or delay", barriers, number=False)


def _twice(path: str, what: str, names: list[str], *, number: bool = True) -> Iterator[Fault]:
    last = {name: n for n, name in enumerate(names)}
    for name, times in Counter(names).items():
        if times > 1:
            at = f"{path}[{last[name]}]" if number else path
            yield Fault(at, f"the {what} {name!r} is there {times} times")


def _dependencies(document: MissionDocument) -> Iterator[Fault]:
    titles = {task.title for task in document.tasks}
    for n, task in enumerate(document.tasks):
        path = f"$.tasks[{n}].dependsOn"
        yield from _unknown(path, task.depends_on, titles)
        if task.title in task.depends_on:
            yield Fault(path, f"{task.title!r} depends on itself")


def _barriers(document: MissionDocument) -> Iterator[Fault]:
    titles = {task.title for task in document.tasks}
    for field, barriers in (
        ("qualityGates", document.quality_gates),
        ("checkpoints", document.checkpoints),
        ("delays", document.delays),
    ):
        for n, barrier in enumerate(barriers):
            path = f"$.{field}[{n}]"
            yield from _unknown(f"{path}.afterTasks", barrier.after_tasks, titles)
            yield from _unknown(f"{path}.blocksTasks", barrier.blocks_tasks, titles)
            if both := sorted(set(barrier.after_tasks) & set(barrier.blocks_tasks)):
                yield Fault(path, f"waits for {both[0]!r} and holds it back")


def _unknown(path: str, names: Iterable[str], titles: set[str]) -> Iterator[Fault]:
    for n, name in enumerate(names):
        if name not in titles:
            yield Fault(f"{path}[{n}]", f"there is no task {name!r} in this document")

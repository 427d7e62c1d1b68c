"""Pictures of a mission's graph: as text, for Graphviz (`dot`), and as SVG.  Layers go from left to right, or down."""

from __future__ import annotations

from polpoctl.render import escape, fit

TYPE_CHECKING = False  # as in polpod.wire.jsonrpc
if TYPE_CHECKING:
    from typing import Any

WIDTH, HEIGHT, ACROSS, DOWN, MARGIN = 190, 34, 70, 14, 20
"""Of a node, between layers, between nodes of one, and around all: SVG's units."""
LETTERS = 24
"""Of a name that fit into a node."""

COLOURS = {
    "done": "#c8e6c9", "open": "#c8e6c9", "failed": "#ffcdd2", "cancelled": "#e0e0e0", "in_progress": "#bbdefb",
    "review": "#bbdefb", "awaiting_approval": "#fff3c4", "holding": "#fff3c4",
}  # fmt: skip
"""Fills by status; white is what did not begin."""
MARKS = {"gate": "gate", "checkpoint": "checkpoint", "delay": "delay"}


def text(graph: dict[str, Any]) -> str:
    """A line for each node, layer by layer, with what it waits for."""
    nodes = graph["nodes"]
    lines = []
    for node in sorted(nodes, key=lambda node: node["layer"]):
        after = ", ".join(_name(nodes[n]) for n in node["after"])
        state = f" [{node['state']}]" if node["state"] else ""
        lines.append(f"{'  ' * node['layer']}{_name(node)}{state}{f'  <- {after}' if after else ''}\n")
    return "".join(lines)


def dot(graph: dict[str, Any]) -> str:
    """For Graphviz: `polpoctl mission graph NAME --format dot | dot -Tpng`."""
    lines = [f"digraph {_quoted(graph['name'])} {{", "  rankdir=LR;", "  node [style=filled, fillcolor=white];"]
    for n, node in enumerate(graph["nodes"]):
        shape = "box" if node["kind"] == "task" else "diamond"
        fill = f', fillcolor="{COLOURS[node["state"]]}"' if node["state"] in COLOURS else ""
        lines.append(f"  n{n} [label={_quoted(_name(node))}, shape={shape}{fill}];")
    lines += [f"  n{on} -> n{n};" for n, node in enumerate(graph["nodes"]) for on in node["after"]]
    return "\n".join([*lines, "}"]) + "\n"


def svg(graph: dict[str, Any]) -> str:
    """A document of its own, that needs nothing else."""
    nodes = graph["nodes"]
    rows: dict[int, int] = {}
    at: list[tuple[int, int]] = []
    for node in nodes:
        row = rows[node["layer"]] = rows.get(node["layer"], -1) + 1
        at.append((MARGIN + node["layer"] * (WIDTH + ACROSS), MARGIN + row * (HEIGHT + DOWN)))
    width = max((x for x, _ in at), default=0) + WIDTH + MARGIN
    height = max((y for _, y in at), default=0) + HEIGHT + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12" role="img">',
        f"<title>{_xml(escape(graph['name']))}</title>",
        '<rect width="100%" height="100%" fill="white"/>',
        '<g fill="none" stroke="#888">',
    ]
    for n, node in enumerate(nodes):
        parts += [_edge(at[on], at[n]) for on in node["after"]]
    parts.append("</g>")
    parts += [_box(node, *at[n]) for n, node in enumerate(nodes)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = start[0] + WIDTH, start[1] + HEIGHT // 2
    x2, y2 = end[0], end[1] + HEIGHT // 2
    middle = (x1 + x2) // 2
    return f'<path d="M{x1},{y1} C{middle},{y1} {middle},{y2} {x2},{y2}"/>'


def _box(node: dict[str, Any], x: int, y: int) -> str:
    fill, round_ = COLOURS.get(node["state"], "white"), 4 if node["kind"] == "task" else HEIGHT // 2
    said = f"{_name(node)}: {node['state']}" if node["state"] else _name(node)
    return (
        f'<g><title>{_xml(said)}</title><rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="{round_}" '
        f'fill="{fill}" stroke="#555"/><text x="{x + WIDTH // 2}" y="{y + HEIGHT // 2 + 4}" text-anchor="middle">'
        f"{_xml(fit(_name(node), LETTERS))}</text></g>"
    )


def _name(node: dict[str, Any]) -> str:
    name = escape(node["name"])
    return name if node["kind"] == "task" else f"{MARKS[node['kind']]} {name}"


def _quoted(name: str) -> str:
    return '"' + escape(name).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _xml(name: str) -> str:
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

// A mission as a graph: laid out when its shape is another, coloured as its nodes stand.
import { Graph as Shape, layout } from "@dagrejs/dagre";
import { useMemo } from "preact/hooks";
import { words } from "../format";
import type { GraphNode } from "../model";
import { path } from "../router";
import { tone } from "./status";

const WIDTH = 170;
const HEIGHT = 46;
const GAP = 26;
/** Nodes and edges; with more a layout takes seconds, in which the page stands still, and layers in rows have to do. */
const MOST_LAID_OUT = 800;

interface Placed {
  width: number;
  height: number;
  at: { x: number; y: number }[];
  edges: { from: number; to: number; points: { x: number; y: number }[] }[];
}

export function Graph({ nodes, label }: { nodes: GraphNode[]; label: string }) {
  const shape = JSON.stringify(nodes.map((node) => node.after));
  const placed = useMemo(() => {
    const size = nodes.reduce((sum, node) => sum + 1 + node.after.length, 0);
    return size > MOST_LAID_OUT ? layered(nodes) : laidOut(nodes);
  }, [shape]);
  return (
    <div class="graph scroll" tabIndex={0} role="region" aria-label={label}>
      <svg width={placed.width} height={placed.height} viewBox={`0 0 ${placed.width} ${placed.height}`} role="list">
        <defs>
          <marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
            <path d="M0 0L8 4L0 8z" />
          </marker>
          <clipPath id="box"><rect width={WIDTH - 4} height={HEIGHT} /></clipPath>
        </defs>
        {placed.edges.map((edge) => (
          <path key={`${edge.from}-${edge.to}`} class="edge" d={curve(edge.points)} marker-end="url(#arrow)" />
        ))}
        {nodes.map((node, index) => <Node key={index} node={node} at={placed.at[index] ?? { x: 0, y: 0 }} />)}
      </svg>
    </div>
  );
}

function Node({ node, at }: { node: GraphNode; at: { x: number; y: number } }) {
  const state = node.state ?? "not started";
  const drawing = (
    <g transform={`translate(${at.x - WIDTH / 2} ${at.y - HEIGHT / 2})`} class={`node ${node.kind} ${tone(state)}`}>
      <rect width={WIDTH} height={HEIGHT} rx={node.kind === "task" ? 6 : HEIGHT / 2} />
      <text x={12} y={19} clip-path="url(#box)">{short(node.name)}</text>
      <text x={12} y={36} class="small" clip-path="url(#box)">{node.kind === "task" ? words(state) : `${node.kind}: ${words(state)}`}</text>
      <title>{`${node.name}: ${words(state)}`}</title>
    </g>
  );
  const name = `${node.kind} ${node.name}: ${words(state)}`;
  if (node.kind !== "task" || node.id === null) return <g role="listitem" aria-label={name}>{drawing}</g>;
  const id = node.id;
  return (
    <g role="listitem" aria-label={name}>
      <a href={path("tasks", id)}>{drawing}</a>
    </g>
  );
}

function short(name: string): string {
  const letters = [...name];
  return letters.length > 21 ? `${letters.slice(0, 20).join("")}…` : name;
}

function laidOut(nodes: GraphNode[]): Placed {
  const graph = new Shape();
  graph.setGraph({ rankdir: "LR", nodesep: GAP, ranksep: 44, marginx: 12, marginy: 12 });
  graph.setDefaultEdgeLabel(() => ({}));
  nodes.forEach((_, index) => graph.setNode(String(index), { width: WIDTH, height: HEIGHT }));
  nodes.forEach((node, to) => node.after.forEach((from) => graph.setEdge(String(from), String(to))));
  layout(graph);
  const { width = 0, height = 0 } = graph.graph() as { width?: number; height?: number };
  const at = nodes.map((_, index) => graph.node(String(index)) as { x: number; y: number });
  const edges = graph.edges().map((edge) => ({
    from: Number(edge.v),
    to: Number(edge.w),
    points: (graph.edge(edge) as { points: { x: number; y: number }[] }).points,
  }));
  return { width, height, at, edges };
}

/** By the layers that the daemon counted: straight lines, linear time. */
function layered(nodes: GraphNode[]): Placed {
  const filled: number[] = [];
  const at = nodes.map(({ layer }) => {
    const row = (filled[layer] = (filled[layer] ?? 0) + 1) - 1;
    return { x: 12 + WIDTH / 2 + layer * (WIDTH + 60), y: 12 + HEIGHT / 2 + row * (HEIGHT + GAP) };
  });
  const edges = nodes.flatMap((node, to) =>
    node.after.map((from) => {
      const [begin, end] = [at[from] ?? { x: 0, y: 0 }, at[to] ?? { x: 0, y: 0 }];
      return { from, to, points: [{ x: begin.x + WIDTH / 2, y: begin.y }, { x: end.x - WIDTH / 2, y: end.y }] };
    }),
  );
  const right = at.reduce((most, { x }) => Math.max(most, x), 0);
  const bottom = at.reduce((most, { y }) => Math.max(most, y), 0);
  return { width: right + WIDTH / 2 + 12, height: bottom + HEIGHT / 2 + 12, at, edges };
}

function curve(points: { x: number; y: number }[]): string {
  const [first, ...rest] = points;
  const last = rest.at(-1);
  if (first === undefined || last === undefined) return "";
  let drawn = `M${first.x} ${first.y}`;
  for (let index = 0; index < rest.length - 1; index++) {
    const [here, next] = [rest[index], rest[index + 1]];
    if (here && next) drawn += `Q${here.x} ${here.y} ${(here.x + next.x) / 2} ${(here.y + next.y) / 2}`;
  }
  return `${drawn}L${last.x} ${last.y}`;
}

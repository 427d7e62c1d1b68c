// A small curve of few points, with its extremes in words for who cannot see it.
export interface Point {
  x: number;
  y: number;
  label: string;
}

const WIDTH = 300;
const HEIGHT = 72;
const MARGIN = 5;

export function Curve(props: { title: string; points: readonly Point[]; format(value: number): string; marked?: number }) {
  const { points, format } = props;
  const last = points.at(-1);
  if (last === undefined || points.length < 2) return null;
  const most = Math.max(...points.map((point) => point.y), Number.MIN_VALUE);
  const first = Math.min(...points.map((point) => point.x)); // a clock that was set back makes the last one no later
  const span = Math.max(...points.map((point) => point.x)) - first || 1;
  const at = ({ x, y }: Point): [number, number] => [
    MARGIN + ((x - first) / span) * (WIDTH - 2 * MARGIN),
    HEIGHT - MARGIN - (y / most) * (HEIGHT - 2 * MARGIN),
  ];
  const line = points.map((point) => at(point).map((n) => n.toFixed(1)).join(",")).join(" ");
  return (
    <figure class="curve">
      <figcaption>
        {props.title} <span class="number">{format(last.y)}</span> <span class="faint">most {format(most)}</span>
      </figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={`${props.title}: now ${format(last.y)}, at most ${format(most)}`}>
        <line x1={0} y1={HEIGHT - MARGIN} x2={WIDTH} y2={HEIGHT - MARGIN} class="axis" />
        <polyline points={line} />
        {points.map((point) => {
          if (point.label === "") return null;
          const [x, y] = at(point);
          return (
            <circle key={point.x} cx={x} cy={y} r={point.x === props.marked ? 4 : 2.5} class={point.x === props.marked ? "marked" : ""}>
              <title>{`${point.label}: ${format(point.y)}`}</title>
            </circle>
          );
        })}
      </svg>
    </figure>
  );
}

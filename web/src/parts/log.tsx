// A log on a page: coloured, searched, followed while its end is in view.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { say } from "../actions";
import type { Piece } from "../ansi";
import { bytes, whole } from "../format";
import { download, RunLog, type Line, type LogView } from "../log";
import { useStore, type Resource } from "../store";
import { Search } from "./filters";

const LINE = 18;
const SPARE = 20;
const EMPTY: Resource = { value: { lines: [], version: 0, from: 0, end: false }, problem: null };

export function Log({ task, run }: { task: string; run: number }) {
  const key = `log/${task}/${run}`;
  const log = useMemo(() => new RunLog(key, task, run), [key]);
  const generation = useStore((state) => state.generation);
  const resource = useStore((state) => state.resources[key] ?? EMPTY);
  const view = resource.value as LogView;
  useEffect(() => () => log.close(), [log]);
  useEffect(() => void log.follow(), [log, generation]);

  const [text, setText] = useState("");
  const [place, setPlace] = useState(0);
  const box = useRef<HTMLDivElement>(null);
  const [scroll, setScroll] = useState({ top: 0, height: 400 });
  const [follows, setFollows] = useState(true);
  const wanted = text.toLowerCase();
  const hits = useMemo(() => found(view.lines, wanted), [view.lines, view.version, wanted]);

  useLayoutEffect(() => {
    if (follows && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [view.version, follows]);
  useLayoutEffect(() => {
    const observed = box.current;
    if (!observed) return;
    const measure = () => setScroll({ top: observed.scrollTop, height: observed.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(observed);
    return () => observer.disconnect();
  }, []);
  const goTo = (hit: number) => {
    const turned = (hit + hits.length) % hits.length;
    const line = hits[turned];
    if (line === undefined || !box.current) return;
    setPlace(turned);
    setFollows(false);
    box.current.scrollTop = Math.max(0, line * LINE - scroll.height / 2);
  };
  useEffect(() => {
    if (wanted !== "" && hits.length > 0) goTo(0);
  }, [wanted]);

  const from = Math.max(0, Math.floor(scroll.top / LINE) - SPARE);
  const to = Math.min(view.lines.length, Math.ceil((scroll.top + scroll.height) / LINE) + SPARE);
  return (
    <section class="log" aria-label={`Log of run ${run}`}>
      <header>
        <Search label="Search the log" value={text} change={setText} />
        {wanted !== "" && (
          <>
            <span class="number" role="status">{hits.length === 0 ? "not found" : `${place + 1} of ${whole(hits.length)}`}</span>
            <button type="button" aria-label="Previous" disabled={hits.length === 0} onClick={() => goTo(place - 1)}>↑</button>
            <button type="button" aria-label="Next" disabled={hits.length === 0} onClick={() => goTo(place + 1)}>↓</button>
          </>
        )}
        <span class="grow" />
        {view.from !== 0 && view.from !== null && (
          <button type="button" onClick={() => log.earlier().catch((problem: Error) => say(problem.message, true))}>
            Earlier ({bytes(view.from)})
          </button>
        )}
        <label>
          <input type="checkbox" checked={follows} onChange={(event) => setFollows(event.currentTarget.checked)} /> Follow
        </label>
        <button type="button" onClick={() => download(task, run).catch((problem: Error) => say(problem.message, true))}>Download</button>
      </header>
      {resource.problem && <p class="problem" role="alert">{resource.problem}</p>}
      <div
        class="lines"
        ref={box}
        tabIndex={0}
        role="log"
        aria-live="off"
        aria-label={`Lines of run ${run}`}
        onScroll={({ currentTarget: now }) => {
          setScroll({ ...scroll, top: now.scrollTop });
          setFollows(now.scrollTop + now.clientHeight >= now.scrollHeight - LINE);
        }}
      >
        <div class="length" style={{ height: `${view.lines.length * LINE}px` }}>
          <pre style={{ top: `${from * LINE}px` }}>
            {view.lines.slice(from, to).map((line, index) => (
              <div key={from + index} class={hits[place] === from + index ? "line found" : "line"}>
                {line.pieces.map((piece) => <Text piece={piece} wanted={wanted} />)}
              </div>
            ))}
          </pre>
        </div>
      </div>
      <footer class="faint">
        {whole(view.lines.length)} lines{view.from === null && ", earlier ones by download"} {view.end ? "– the end" : "– goes on"}
      </footer>
    </section>
  );
}

function found(lines: readonly Line[], wanted: string): number[] {
  if (wanted === "") return [];
  return lines.flatMap((line, index) => (line.text.toLowerCase().includes(wanted) ? [index] : []));
}

function Text({ piece, wanted }: { piece: Piece; wanted: string }) {
  const { fg, bg, bold, dim, italic, underline, inverse } = piece.style;
  const classes = [bold && "bold", dim && "dim", italic && "italic", underline && "underline"].filter(Boolean).join(" ");
  const style = inverse
    ? { color: bg ?? "var(--page)", backgroundColor: fg ?? "var(--ink)" }
    : { ...(fg && { color: fg }), ...(bg && { backgroundColor: bg }) };
  if (wanted === "") return <span class={classes} style={style}>{piece.text}</span>;
  return <span class={classes} style={style}>{marked(piece.text, wanted)}</span>;
}

function marked(text: string, wanted: string) {
  const lower = text.toLowerCase();
  if (lower.length !== text.length) return text; // letters that change their length with their case: shown unmarked
  const parts = [];
  let at = 0;
  for (let hit = lower.indexOf(wanted); hit !== -1; hit = lower.indexOf(wanted, at)) {
    parts.push(text.slice(at, hit), <mark>{text.slice(hit, hit + wanted.length)}</mark>);
    at = hit + wanted.length;
  }
  return [...parts, text.slice(at)];
}

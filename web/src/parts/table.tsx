// A table of which only the rows in view are in the document, so that its length does not matter.
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { onPage } from "../keyboard";
import type { Listed } from "../listing";

export interface Column<Row> {
  name: string;
  title: string;
  cell(row: Row): ComponentChildren;
}

const NARROW = matchMedia("(max-width: 640px)");
const SPARE = 8;

/** An id of a row in the document, where it may have no blanks. */
function reference(id: string): string {
  return `row-${encodeURIComponent(id)}`;
}

export function Table<Row>(props: {
  label: string;
  columns: readonly Column<Row>[];
  listed: Listed<Row>;
  id(row: Row): string;
  open(row: Row): void;
  look(from: number, to: number): void;
  empty: string;
}) {
  const { rows } = props.listed;
  const body = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  const [chosen, choose] = useState<string | null>(null);
  const rowHeight = NARROW.matches ? 62 : 36;
  const from = Math.max(0, Math.floor(view.top / rowHeight) - SPARE);
  const to = Math.min(rows.length, Math.ceil((view.top + view.height) / rowHeight) + SPARE);
  const place = chosen === null ? -1 : rows.findIndex((row) => props.id(row) === chosen);
  const first = useRef<{ id: string; index: number } | null>(null);

  useLayoutEffect(() => {
    const box = body.current;
    if (!box) return;
    const measure = () => setView({ top: box.scrollTop, height: box.clientHeight });
    const observer = new ResizeObserver(measure);
    observer.observe(box);
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(() => {
    const box = body.current;
    if (!box || first.current === null || box.scrollTop === 0) return;
    const { id, index } = first.current; // who looks further down keeps that in view when rows come above
    const now = rows.findIndex((row) => props.id(row) === id);
    if (now === -1 || now === index) return;
    first.current = { id, index: now };
    box.scrollTop += (now - index) * rowHeight;
  }, [rows]);
  const scrolled = (top: number) => {
    setView({ ...view, top });
    const index = Math.floor(top / rowHeight);
    const row = rows[index];
    first.current = row === undefined ? null : { id: props.id(row), index };
  };
  useEffect(() => props.look(from, to), [from, to, rows.length]);
  useLayoutEffect(() => {  // before the next key: an effect would come after the next frame
    onPage.step = (by) => {
      const next = rows[Math.min(rows.length - 1, Math.max(0, place + by))];
      if (next === undefined) return;
      choose(props.id(next));
      const top = rows.indexOf(next) * rowHeight;
      const box = body.current;
      if (box && (top < box.scrollTop || top + rowHeight > box.scrollTop + box.clientHeight)) {
        box.scrollTop = by < 0 ? top : top + rowHeight - box.clientHeight;
      }
    };
    onPage.enter = () => {
      const row = rows[place];
      if (row !== undefined) props.open(row);
    };
    return () => {
      onPage.step = onPage.enter = undefined;
    };
  });

  const cells = (row: Row) =>
    props.columns.map((column) => (
      <div role="gridcell" class={`cell ${column.name}`} key={column.name}>
        {column.cell(row)}
      </div>
    ));
  const shown = rows.slice(from, to).map((row, index) => (
    <div
      role="row"
      id={reference(props.id(row))}
      key={props.id(row)}
      class="row"
      aria-rowindex={from + index + 2}
      aria-selected={props.id(row) === chosen}
      style={{ top: `${(from + index) * rowHeight}px`, height: `${rowHeight}px` }}
      onClick={(event) => {
        choose(props.id(row));
        if (!(event.target as HTMLElement).closest("a, button")) props.open(row);
      }}
    >
      {cells(row)}
    </div>
  ));
  return (
    <div
      class="table"
      role="grid"
      aria-label={props.label}
      aria-rowcount={props.listed.more ? -1 : rows.length + 1}
      aria-busy={props.listed.reading}
      aria-activedescendant={chosen !== null && place >= from && place < to ? reference(chosen) : undefined}
      tabIndex={0}
    >
      <div role="row" class="row head" aria-rowindex={1}>
        {props.columns.map((column) => (
          <div role="columnheader" class={`cell ${column.name}`} key={column.name}>
            {column.title}
          </div>
        ))}
      </div>
      <div class="rows" role="rowgroup" ref={body} onScroll={(event) => scrolled(event.currentTarget.scrollTop)}>
        <div class="length" role="presentation" style={{ height: `${rows.length * rowHeight}px` }}>
          {shown}
        </div>
        {rows.length === 0 && !props.listed.reading && !props.listed.more && <p class="empty">{props.empty}</p>}
      </div>
    </div>
  );
}

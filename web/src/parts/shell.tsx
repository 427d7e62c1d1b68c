// What is around every page: where one can go, whether there is contact, what was said, and the keys.
import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { whole } from "../format";
import { PLACES, toggleHelp } from "../keyboard";
import { decides, useLive } from "../live";
import { path } from "../router";
import { call, hasten, signOut } from "../session";
import { useStore, type State } from "../store";
import { switchTheme } from "../theme";
import { Elapsed } from "./time";

/** Events that the page may be behind without a word. */
const MUCH = 500;

export function Shell({ page, children }: { page: string; children: ComponentChildren }) {
  const session = useStore((state) => state.session);
  const theme = useStore((state) => state.theme);
  const at = useStore((state) => state.path);
  const waiting = useLive("waiting", () => call("approval.list", { limit: 100 }), decides).value;
  const behind = useStore((state) => (state.behind > MUCH ? state.behind : 0));
  const count = waiting?.approvals.length ?? 0;
  useEffect(() => {
    if (document.activeElement === document.body) document.getElementById("main")?.focus(); // what had it went with its page
  }, [at]);
  return (
    <div class="shell">
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), document.getElementById("main")?.focus())}>To the content</a>
      <nav aria-label="Pages">
        <strong class="brand">polpod</strong>
        {PLACES.map((place) => (
          <a key={place.page} href={path(place.page)} aria-current={place.page === page ? "page" : undefined} title={`g ${place.key}`}>
            {place.title}
            {place.page === "approvals" && count > 0 && <span class="count" aria-label={`${count} wait`}>{waiting?.next == null ? count : `${count}+`}</span>}
          </a>
        ))}
        <span class="grow" />
        {behind > 0 && <span class="faint who">{whole(behind)} events behind</span>}
        <button type="button" onClick={switchTheme} aria-label={`Theme: ${theme}`} title={`Theme: ${theme}`}>{{ auto: "◐", light: "☀", dark: "☾" }[theme]}</button>
        <button type="button" onClick={toggleHelp} aria-label="Help" title="?">?</button>
        {(session.phase === "open" || session.phase === "lost") && <span class="faint who">{session.user} ({session.role})</span>}
        <button type="button" onClick={() => signOut()}>Sign out</button>
      </nav>
      {session.phase === "lost" && (
        <div class="banner">
          <span role="alert">No contact with polpod: what is shown may be old; nothing will be missed.</span>
          <span>for <Elapsed from={new Date(session.since).toISOString()} to={null} /></span>
          <button type="button" onClick={hasten}>Try now</button>
        </div>
      )}
      <main id="main" tabIndex={-1}>{children}</main>
      <Notices />
      <Help />
    </div>
  );
}

function Notices() {
  const notices = useStore((state: State) => state.notices);
  return (
    <div class="notices" role="status" aria-live="polite">
      {notices.map((notice) => <p key={notice.id} class={notice.bad ? "notice bad" : "notice"}>{notice.text}</p>)}
    </div>
  );
}

const KEYS: readonly [string, string][] = [
  ["/", "search"],
  ["j, k", "next, previous row"],
  ["PgDn, PgUp", "twenty rows on, back"],
  ["Home, End", "first, last row"],
  ["Enter", "open the row"],
  ...PLACES.map((place): [string, string] => [`g ${place.key}`, place.title.toLowerCase()]),
  ["?", "this help"],
  ["Esc", "leave the search, or this help"],
];

function Help() {
  return (
    <dialog id="help" aria-label="Keys">
      <h2>Keys</h2>
      <dl class="keys">{KEYS.map(([key, what]) => <div key={key}><dt><kbd>{key}</kbd></dt><dd>{what}</dd></div>)}</dl>
      <form method="dialog"><button>Close</button></form>
    </dialog>
  );
}

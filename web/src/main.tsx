// The dashboard: a client of the daemon's JSON-RPC like any other, in a browser.
import { render } from "preact";
import "./style.css";
import { listenToKeys } from "./keyboard";
import { ApprovalsPage } from "./pages/approvals";
import { HealthPage } from "./pages/health";
import { LoginPage } from "./pages/login";
import { MissionPage } from "./pages/mission";
import { MissionsPage } from "./pages/missions";
import { QueuesPage } from "./pages/queues";
import { RunsPage } from "./pages/runs";
import { SchedulesPage } from "./pages/schedules";
import { TaskPage } from "./pages/task";
import { TasksPage } from "./pages/tasks";
import { Shell } from "./parts/shell";
import { followAddress } from "./router";
import { hasten, resume } from "./session";
import { useStore } from "./store";
import { restoreTheme } from "./theme";
import { showUnseen, visible } from "./visible";

/** The page of an address, by its first part; the first of them where there is none. */
const PAGES: Readonly<Record<string, (rest: string[]) => preact.JSX.Element>> = {
  tasks: ([id, more]) => {
    if (id === undefined) return <TasksPage />;
    return <TaskPage key={id} id={id} run={/^\d{1,15}$/.test(more ?? "") ? Number(more) : undefined} />;
  },
  runs: () => <RunsPage />,
  queues: ([name]) => (name === undefined ? <QueuesPage /> : <TasksPage key={name} queue={name} />),
  missions: ([id]) => (id === undefined ? <MissionsPage /> : <MissionPage key={id} id={id} />),
  approvals: () => <ApprovalsPage />,
  schedules: () => <SchedulesPage />,
  health: () => <HealthPage />,
};

function App() {
  const session = useStore((state) => state.session);
  const [name = "tasks", ...rest] = useStore((state) => state.path);
  const journal = useStore((state) => state.journal);
  if (session.phase === "signed_out" || session.phase === "connecting") return <LoginPage />;
  const page = Object.hasOwn(PAGES, name) ? PAGES[name] : undefined;
  document.title = visible(`${[...rest, name].join(" – ")} – polpod`);
  return <Shell key={journal} page={name}>{page === undefined ? <p class="empty">There is no such page.</p> : page(rest)}</Shell>;
}

showUnseen();
restoreTheme();
followAddress();
listenToKeys();
addEventListener("online", hasten);
document.addEventListener("visibilitychange", hasten);
resume();
const root = document.getElementById("page");
if (root) render(<App />, root);

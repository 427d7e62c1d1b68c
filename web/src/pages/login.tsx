// Who is not signed in gives a key.
import { useState } from "preact/hooks";
import { signIn } from "../session";
import { useStore } from "../store";

export function LoginPage() {
  const session = useStore((state) => state.session);
  const [key, setKey] = useState("");
  const [remember, setRemember] = useState(false);
  const problem = session.phase === "signed_out" || session.phase === "connecting" ? session.problem : null;
  const busy = session.phase === "connecting" && problem === null;
  return (
    <main class="login">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (key.trim()) signIn(key.trim(), remember);
        }}
      >
        <h1>polpod</h1>
        <input type="text" autocomplete="username" value="polpod" readOnly hidden />
        <label for="key">API key</label>
        <input id="key" type="password" autocomplete="current-password" autofocus value={key} onInput={(event) => setKey(event.currentTarget.value)} />
        <label class="check">
          <input type="checkbox" checked={remember} onChange={(event) => setRemember(event.currentTarget.checked)} /> Remember it in this browser
        </label>
        {problem && <p class="problem" role="alert">{problem}</p>}
        <button type="submit" class="good" disabled={busy}>
          {busy ? "Connecting…" : "Sign in"}
        </button>
        <p class="faint">Get one on the host: <code>polpoctl key add USER NAME --role operator</code></p>
      </form>
    </main>
  );
}

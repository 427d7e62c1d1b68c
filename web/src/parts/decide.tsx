// What a person says to a request: yes, no, another version, or an answer; with a word for who does the work.
import { useId, useState } from "preact/hooks";
import { act } from "../actions";
import type { Approval } from "../model";
import { Act, useMayAct } from "./buttons";

export function Decide({ request }: { request: Approval }) {
  const [text, setText] = useState("");
  const id = useId();
  const said = text.trim();
  const feedback = said === "" ? {} : { feedback: said };
  const question = request.kind === "question";
  if (!useMayAct()) return null;
  return (
    <div class="decide">
      <label for={id}>{question ? "Answer" : "Feedback (for who does the work)"}</label>
      <textarea id={id} rows={2} maxLength={20_000} value={text} onInput={(event) => setText(event.currentTarget.value)} />
      <div class="buttons">
        {question ? (
          <Act kind="good" disabled={said === ""} run={() => act("Answered.", "approval.answer", { id: request.id, text: said })}>Answer</Act>
        ) : (
          <>
            <Act kind="good" run={() => act("Approved.", "approval.approve", { id: request.id, ...feedback })}>Approve</Act>
            {request.kind === "done" && request.revision < request.max_revisions && (
              <Act disabled={said === ""} run={() => act("It is done over.", "approval.reject", { id: request.id, ...feedback })}>
                Have it done over
              </Act>
            )}
            <Act kind="bad" run={() => act("Rejected.", "approval.reject", { id: request.id, final: true, ...feedback })}>Reject</Act>
          </>
        )}
      </div>
    </div>
  );
}

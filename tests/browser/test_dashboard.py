"""The dashboard as a person has it: what happens is on the page, what is done there happens, and nothing is missed."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from conftest import Site
from kit.browser import DESK, PHONE, WIDER, Visitor, row, shown_seqs
from kit.jobs import POLPOCTL, waits_for
from kit.waiting import until
from playwright.sync_api import Page, TimeoutError, expect

CUT = """() => [...document.querySelectorAll(".cell.id, .cell.state, .cell.took, .cell.at")]
  .filter(cell => cell.scrollWidth > cell.clientWidth).map(cell => cell.textContent)"""
"""Cells of a table that have less room than what has always the same length."""
REPOSITORY = Path(__file__).parents[2]
SCREENSHOTS = REPOSITORY / "build" / "screenshots"
HOSTILE = '<img src=x onerror="alert(1)"><script>document.title="taken"</script>'


def photograph(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}.png")


def downloaded(page: Page) -> bytes:
    """The log of the task that is shown, as its button saves it."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    return download.value.path().read_bytes()


def test_a_task_from_its_submission_to_its_end(site: Site, visitor: Visitor) -> None:
    page, host = visitor.page, site.host
    more, go = host.root / "more", host.root / "go"
    says = (
        r"printf '\033[31mred\033[0m plain\n<b>bold</b>\n\033]0;title\007\033[2Kclean\033[?25h\n50 %%\r100 %%\n'; "
        + waits_for(more, r"printf 'gr\303\274n\nlast'; ")
        + waits_for(go)
    )
    expect(page.get_by_text("No tasks yet")).to_be_visible()
    submit = [sys.executable, "-m", "polpoctl", "submit", "--root", str(host.root), "--title", HOSTILE]
    submit += ["--label", "team=<i>core</i>", "--", "sh", "-c", says]
    task_id = subprocess.run(submit, cwd=host.root, check=True, capture_output=True, text=True).stdout.strip()
    expect(row(page, HOSTILE)).to_contain_text("running")
    expect(row(page, HOSTILE)).to_contain_text("team=<i>core</i>")
    kept = [struct.pack("<ddQ", 1, 0.5, 5 << 20), struct.pack("<ddQ", 2, 0.6, 777 << 20)]
    Path(f"{host.running(task_id)['log_path']}.usage").write_bytes(
        b"".join(kept)
    )  # as its runner does, some seconds later
    row(page, HOSTILE).click()
    expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
    expect(page.get_by_role("img", name="Memory")).to_have_accessible_name(re.compile("at most 777 MiB"))
    lines = page.get_by_role("log")
    expect(lines).to_contain_text("red plain")
    expect(lines).to_contain_text("<b>bold</b>")
    expect(lines.get_by_text("clean", exact=True)).to_be_visible()  # of what is for a terminal alone nothing is left
    expect(lines.get_by_text("100 %", exact=True)).to_be_visible()
    red = lines.get_by_text("red", exact=True).evaluate("piece => getComputedStyle(piece).color")
    assert red != lines.get_by_text("plain").evaluate("piece => getComputedStyle(piece).color")
    expect(page.get_by_label("Processes")).to_contain_text("printf")
    more.touch()
    expect(lines).to_contain_text("grün")
    expect(lines).to_contain_text("last")  # a line that is not ended yet
    page.get_by_label("Search the log").fill("GRÜN")
    expect(page.get_by_text("1 of 1")).to_be_visible()
    expect(lines.locator("mark")).to_have_text("grün")
    assert downloaded(page) == Path(host.runs(task_id)[0]["log_path"]).read_bytes()
    over, confirmed = page.locator("header .status", has_text="cancelled"), False

    def cancelled() -> bool:
        """Asking for it is given up after four seconds, which a busy machine may take for the second click."""
        nonlocal confirmed
        with suppress(TimeoutError):
            page.get_by_role("button", name="Cancel", exact=True).click(timeout=5000)
            page.get_by_role("button", name="Cancel it?").click(timeout=5000)
            confirmed = True
            over.wait_for(timeout=5000)
        return confirmed and over.is_visible()

    until(cancelled, "it is cancelled by two clicks")
    expect(page.locator("header .status")).to_have_text("cancelled")
    assert host.finished(task_id)["status"] == "cancelled"
    assert "taken" not in page.title()
    told = [event["seq"] for event in host.call("event.list", subject=f"task/{task_id}", after=0, limit=1000)["events"]]
    until(lambda: shown_seqs(page) == told, "the timeline has what the journal has")


def test_a_person_decides(site: Site, visitor: Visitor) -> None:
    page, host = visitor.page, site.host
    wanted = host.submit("true", title="deploy", needs_approval=True)
    unwanted = host.submit("true", title="drop the database", needs_approval=True)
    asking = host.submit(shell=f"{POLPOCTL} ask --wait 'Which port?' > answer", title="asks")
    page.get_by_role("link", name="Approvals").click()
    request = page.get_by_label("Request").filter(has_text="deploy")
    request.get_by_label("Feedback").fill("on Sunday")
    request.get_by_role("button", name="Approve").click()
    expect(request).to_have_count(0)
    assert host.finished(wanted)["status"] == "done"
    page.get_by_label("Request").filter(has_text="drop the database").get_by_role("button", name="Reject").click()
    expect(page.get_by_text("drop the database")).to_have_count(0)
    assert host.finished(unwanted)["status"] == "cancelled"
    question = page.get_by_label("Request").filter(has_text="Which port?")
    question.get_by_label("Answer").fill("8080")
    question.get_by_role("button", name="Answer").click()
    until(lambda: host.task(asking)["status"] == "done", "its run has the answer")
    assert (host.root / "answer").read_text().strip() == "8080"
    page.get_by_text("What was decided").click()
    expect(page.get_by_text("on Sunday")).to_be_visible()


def test_nothing_is_missing_after_the_daemon_was_killed(site: Site, visitor: Visitor) -> None:
    host, tasks, detail = site.host, visitor.page, visitor.open()
    tasks.set_viewport_size({"width": 1280, "height": 2400})  # room for all rows
    go = host.root / "counted"
    counts = f"i=0; while [ ! -e {go} ]; do i=$((i+1)); echo line $i; sleep 0.05; done; echo end"
    task_id = host.submit(shell=counts, title="counts")
    host.running(task_id)
    expect(row(tasks, "counts")).to_contain_text("running")
    # Another tab has a session of its own.
    detail.goto(f"{site.url}#/tasks/{task_id}")
    detail.get_by_label("API key").fill(site.key)
    detail.keyboard.press("Enter")
    lines = detail.get_by_role("log")
    expect(lines).to_contain_text("line 3")
    host.kill()
    for page in (tasks, detail):
        # Without the clock beside it: who has it read out is told once.
        expect(page.get_by_role("alert")).to_have_text(
            "No contact with polpod: what is shown may be old; nothing will be missed."
        )
    expect(detail.get_by_role("button", name="Cancel")).to_be_disabled()
    host.start()
    many = host.call(
        "task.submit_many", tasks=[{"command": ["true"], "cwd": "/", "title": f"after {n:02}"} for n in range(30)]
    )
    go.touch()
    ended = {done["id"]: host.finished(done["id"]) for done in many["results"]}
    host.finished(task_id)
    for page in (tasks, detail):
        expect(page.get_by_text("No contact")).to_have_count(0)
    expect(lines).to_contain_text("end")
    written = Path(host.runs(task_id)[0]["log_path"]).read_text().splitlines()
    expect(detail.get_by_text(f"{len(written)} lines – the end")).to_be_visible()
    told = [event["seq"] for event in host.call("event.list", subject=f"task/{task_id}", after=0, limit=1000)["events"]]
    until(lambda: shown_seqs(detail) == told, "the timeline has what the journal has")
    expect(row(tasks, "after ").filter(has_text="done")).to_have_count(len(ended))
    tasks.set_viewport_size(DESK)
    detail.close()


def test_a_long_log_of_which_the_middle_was_let_go(site: Site, visitor: Visitor) -> None:
    page, host = visitor.page, site.host
    task_id = host.submit(shell="seq -f 'line %.0f' 1 100000; echo the very end", title="long")
    host.finished(task_id)
    log = host.runs(task_id)[0]["log_path"]
    subprocess.run(["fallocate", "--punch-hole", "--offset", "65536", "--length", "524288", log], check=True)
    visitor.go("tasks", task_id)
    lines = page.get_by_role("log")
    expect(lines).to_contain_text("the very end")
    expect(page.get_by_text("2 000 lines – the end")).to_be_visible()
    earlier = page.get_by_role("button", name="Earlier")
    for _ in range(2):
        before = page.locator(".log footer").inner_text()
        earlier.click()
        expect(page.locator(".log footer")).not_to_have_text(before)
    expect(page.get_by_text("earlier ones by download")).to_be_visible()
    expect(earlier).to_have_count(0)
    kept = Path(log).read_bytes()
    assert downloaded(page) == kept[:65536] + kept[65536 + 524288 :]


def test_a_download_of_a_log_that_is_being_written_ends(site: Site, visitor: Visitor) -> None:
    page, host = visitor.page, site.host
    task_id = host.submit(shell="while :; do echo more; done")
    visitor.go("tasks", task_id)
    expect(page.get_by_role("log")).to_contain_text("more")
    assert set(downloaded(page).splitlines()[:-1]) == {b"more"}
    host.call("task.cancel", select={"ids": [task_id]})
    host.finished(task_id)


def test_a_mission_fills_in(site: Site, visitor: Visitor) -> None:
    page, host = visitor.page, site.host
    go = host.root / "built"
    document = {
        "tasks": [
            {"title": "fetch", "command": ["true"]},
            {"title": "build", "command": ["sh", "-c", waits_for(go)], "dependsOn": ["fetch"]},
            {"title": "publish", "command": ["true"], "dependsOn": ["build"]},
        ],
        "checkpoints": [{"name": "sign off", "afterTasks": ["build"], "blocksTasks": ["publish"]}],
    }
    mission = host.call("mission.create", document=json.dumps(document), name="release")["id"]
    visitor.go("missions", mission)
    expect(page.get_by_label("task fetch: not started")).to_be_visible()
    page.get_by_role("button", name="Execute").click()
    expect(page.get_by_label("task fetch: done")).to_be_visible()
    expect(page.get_by_label("task build: in progress")).to_be_visible()
    go.touch()
    expect(page.get_by_label("checkpoint sign off: holding")).to_be_visible()
    page.get_by_role("button", name="Let it through").click()
    expect(page.get_by_label("task publish: done")).to_be_visible()
    expect(page.locator("header .status")).to_have_text("completed")


def test_many_tasks_by_keyboard(site: Site, visitor: Visitor) -> None:
    """A long table has few rows in the document; filters and keys find the rest."""
    page, host = visitor.page, site.host
    tasks = [{"title": f"number {n}", "labels": {"odd": str(n % 2)}} for n in range(1000)]
    host.call(
        "task.submit_many", tasks=tasks, defaults={"command": ["true"], "cwd": "/", "hold": True, "queue": "many"}
    )
    visitor.go("queues", "many")
    rows = page.get_by_role("row")
    expect(row(page, "number 999")).to_be_visible()
    assert rows.count() < 100
    for _ in range(3):
        before = page.locator(".foot").inner_text()
        page.locator(".rows").evaluate("rows => rows.scrollTop = rows.scrollHeight")
        expect(page.locator(".foot")).not_to_have_text(before)
    assert rows.count() < 100

    def at_the_end() -> bool:
        page.keyboard.press("End")
        return page.locator(".foot").inner_text() == "1\u202f000 shown"

    until(at_the_end, "all rows were read")
    expect(page.locator("[aria-selected=true]")).to_be_visible()
    box = page.locator(".rows")
    kept = "rows => document.elementFromPoint(300, rows.getBoundingClientRect().top + 5).closest('.row').id"
    before = box.evaluate(kept)
    host.submit("true", hold=True, queue="many")
    expect(page.locator(".foot")).to_have_text("1 001 shown")
    assert box.evaluate(kept) == before  # rows that come above move nothing away under who looks at it
    page.keyboard.press("Home")
    page.keyboard.press("j")
    expect(page.locator("[aria-selected=true]")).to_contain_text("number 999")
    page.keyboard.press("/")
    page.keyboard.type("number 17 odd=1")
    expect(row(page, "number 917")).to_be_visible()
    expect(row(page, "number 916")).to_have_count(0)
    page.keyboard.press("Escape")
    page.evaluate(  # faster than any frame
        """async () => {
            for (const key of ["j", "j", "j", "k", "Enter"]) {
                document.body.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
                await null;
            }
        }"""
    )
    expect(page.get_by_role("heading", name="number 817")).to_be_visible()
    expect(page.locator("main")).to_be_focused()  # rather than nothing: what had the focus went with its page
    page.get_by_role("button", name="Release").click()
    expect(page.locator("header .status")).to_have_text("done")
    for key, name in (("r", "Runs"), ("q", "Queues"), ("m", "Missions"), ("a", "Approvals"), ("t", "Tasks")):
        page.keyboard.press("g")
        page.keyboard.press(key)
        expect(page.get_by_role("heading", name=name, exact=False).first).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    page.keyboard.press("?")
    page.evaluate(  # before anything hears that it was closed
        """() => {
            document.querySelector("dialog button").click();
            document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "?", bubbles: true}));
        }"""
    )
    page.evaluate("() => new Promise(done => setTimeout(done))")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()


def test_who_has_no_key_sees_nothing(site: Site, visitor: Visitor) -> None:
    stranger = site.visitor("wrong")
    expect(stranger.page.get_by_role("alert")).to_contain_text("not accepted")
    expect(stranger.page.get_by_role("grid")).to_have_count(0)
    photograph(stranger.page, "login")
    observer = site.visitor(site.key_of("observer"))
    task_id = site.host.submit("true", title="not yet", hold=True)
    expect(row(observer.page, "not yet")).to_be_visible()
    observer.go("tasks", task_id)
    expect(observer.page.get_by_role("heading", name="not yet")).to_be_visible()
    expect(observer.page.locator("article button")).to_have_count(0)
    asking = site.host.submit("true", title="may it", needs_approval=True)
    observer.go("approvals")
    expect(observer.page.get_by_label("Request").filter(has_text="may it")).to_be_visible()
    expect(observer.page.locator("main button, main textarea")).to_have_count(0)
    site.host.call("task.cancel", select={"ids": [asking]})
    observer.go("tasks", task_id)
    expect(observer.page.get_by_role("heading", name="not yet")).to_be_visible()
    (key,) = [key["id"] for key in site.host.call("key.list")["keys"] if key["name"] == "observer"]
    site.host.call("key.revoke", id=key)
    expect(observer.page.get_by_role("alert")).to_contain_text("revoked")
    expect(observer.page.get_by_role("heading", name="not yet")).to_have_count(0)


def test_what_is_forgotten_while_it_is_looked_at(site: Site, visitor: Visitor) -> None:
    """The page says so, and offers nothing that could be done with it."""
    host, page = site.host, visitor.page
    task_id = host.submit("false", title="short of life")
    host.finished(task_id)
    visitor.go("tasks", task_id)
    expect(page.get_by_role("button", name="Retry")).to_be_visible()
    host.call("task.remove", select={"ids": [task_id]})
    expect(page.get_by_role("alert")).to_contain_text(f"there is no task {task_id}")
    expect(page.get_by_role("button", name="Retry")).to_have_count(0)
    document = json.dumps({"tasks": [{"title": "a", "command": ["true"]}]})
    mission = host.call("mission.create", document=document, name="brief")
    visitor.go("missions", mission["id"])
    expect(page.get_by_role("button", name="Execute")).to_be_visible()
    host.call("mission.delete", id=mission["id"])
    expect(page.get_by_role("alert")).to_contain_text("there is no mission")
    expect(page.get_by_role("button", name="Execute")).to_have_count(0)


def test_who_signs_out_without_contact_is_told_nothing_of_a_key(site: Site, visitor: Visitor) -> None:
    leaving = site.visitor()
    expect(leaving.page.get_by_role("heading", name="Tasks")).to_be_visible()
    site.host.stop()
    expect(leaving.page.get_by_role("alert")).to_contain_text("No contact")
    leaving.page.get_by_role("button", name="Sign out").click()
    leaving.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # as another tab is looked at
    expect(leaving.page.get_by_label("API key")).to_be_visible()
    leaving.page.wait_for_function("new Promise(done => setTimeout(() => done(true)))")
    assert leaving.page.get_by_role("alert").all_inner_texts() == []
    site.host.start()


def test_every_page_in_light_and_dark(site: Site, visitor: Visitor) -> None:
    """The screenshots are for people; that nothing is wider than a phone is for this test."""
    host = site.host
    makes = r"for n in 1 2 3 4; do printf '\033[32m[%d/4]\033[0m compiling part_%d.c\n' $n $n; done; "
    task_id = host.submit(
        shell=makes + f"{POLPOCTL} report progress 62% linking; {waits_for(host.root / 'shot')}", title="Build"
    )
    host.running(task_id)
    mission = host.call("mission.list")["missions"][0]["id"]
    host.call("schedule.set", id=mission, expression="0 3 * * *")
    pages = [
        ("tasks",), ("tasks", task_id), ("runs",), ("queues",), ("missions",), ("missions", mission), ("approvals",),
        ("schedules",), ("health",),
    ]  # fmt: skip
    host.submit("true", title="Deploy it", needs_approval=True)
    page = visitor.page
    for path in pages:
        page.set_viewport_size(DESK)
        visitor.go(*path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.get_by_text("eading…")).to_have_count(0)
        assert page.evaluate(CUT) == [], path
        name = path[0] if len(path) == 1 else path[0].removesuffix("s")  # a page of one: task, mission
        photograph(page, name)
        page.set_viewport_size(PHONE)
        assert page.evaluate(WIDER) == [], path
    (host.root / "shot").touch()
    shades = []
    for _ in range(3):  # light, dark, and as the system has it: dark
        page.get_by_role("button", name="Theme").click()
        shades.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert shades[0] != shades[1] == shades[2]

"""The dashboard where somebody means ill, or contact ends at the wrong moment: nobody is deceived, nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

from conftest import Site
from kit.browser import DESK, PHONE, WIDER, Visitor, row, shown_seqs
from kit.waiting import until
from playwright.sync_api import Page, WebSocketRoute, expect

from polpoctl.times import short

UNSEEN = r"() => document.body.textContent.match(/[\p{Cf}\p{Co}\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]/gu)"
TURNED = "pay\u202ecod.exe\u2066"
LONG = "W" * 150
LINES = "echo good # a comment\nrm -rf /"


def told(site: Site, task_id: str) -> list[int]:
    """The numbers of the events that the journal has about a task."""
    return [e["seq"] for e in site.host.call("event.list", subject=f"task/{task_id}", after=0, limit=1000)["events"]]


def test_what_cannot_be_seen_deceives_nobody(site: Site, visitor: Visitor) -> None:
    page, host = visitor.page, site.host
    task_id = host.submit(
        shell=LINES, title=TURNED + LONG, description=f"d{TURNED}{LONG}", labels={"zero\u200bwidth": TURNED + LONG},
        queue=f"q{TURNED}{LONG}", needs_approval=True,
    )  # fmt: skip
    page.set_viewport_size(PHONE)
    document = {"tasks": [{"title": TURNED, "command": ["true"]}, {"title": "y\u202e", "command": ["x"]}]}
    mission = host.call("mission.create", document=json.dumps(document), name=f"m{TURNED}{LONG}")["id"]
    for path, shown in (
        (("tasks",), r"zero\u200bwidth=pay\u202ecod.exe\u2066"),
        (("tasks", task_id), r"dpay\u202ecod.exe"),
        (("queues",), r"qpay\u202ecod.exe"),
        (("approvals",), r"pay\u202ecod.exe"),
        (("missions",), r"mpay\u202ecod.exe"),
        (("missions", mission), r"mpay\u202ecod.exe"),
    ):
        visitor.go(*path)
        expect(page.locator("main")).to_contain_text(shown)
        assert page.evaluate(UNSEEN) is None, path
        assert page.evaluate(WIDER) == [], path
    visitor.go("approvals")
    # In one line the comment would go on to its end.
    assert page.get_by_text("echo good").inner_text().splitlines() == LINES.splitlines()
    host.call("task.cancel", select={"ids": [task_id]})
    visitor.go("__proto__")
    expect(page.get_by_text("There is no such page.")).to_be_visible()
    page.set_viewport_size(DESK)


def test_a_log_that_means_ill(site: Site, visitor: Visitor) -> None:
    page, host = visitor.page, site.host
    says = (
        r"echo the first line; head -c 600000 /dev/zero | tr '\0' a; echo; seq -f 'line %.0f' 1 2500;"
        r"head -c 1000000 /dev/zero | tr '\0' '\r'; echo after returns; head -c 3000000 /dev/zero | tr '\0' b; echo;"
        r"printf '\033]8;;http://evil.example/\033\\link\033]8;;\033\\ \033Pq#0sixel\033\\|\0337|\n';"
        r"printf '\033[>4;2mbright\033[m \033[4:3mcurly\033[0m \033[58;5;1mthin\n'; printf 'user\342\200\256txt\n';"
        r"printf 'cut \303'; sleep 0.3; printf '\251 whole\n'; printf '\033]0;never ended\nthe very end \303'"
    )
    task_id = host.submit(shell=says, title="ill")
    visitor.go("tasks", task_id)
    lines = page.get_by_role("log")
    expect(lines).to_have_attribute("aria-live", "off")  # it would never be silent
    expect(page.get_by_text("– the end")).to_be_visible()
    for text in ("after returns", "link ||", r"user\u202etxt", "cut é whole", "the very end \ufffd"):
        expect(lines).to_contain_text(text)
    for word in ("evil", "sixel", "never"):
        expect(lines).not_to_contain_text(word)
    styles = {"bright": ("opacity", "1"), "curly": ("fontStyle", "normal"), "thin": ("fontWeight", "400")}
    for text, (name, value) in styles.items():
        assert lines.get_by_text(text).evaluate(f"piece => getComputedStyle(piece).{name}") == value, text
    earlier = page.get_by_role("button", name="Earlier")
    while earlier.count():
        before = earlier.inner_text()
        earlier.dblclick()
        expect(page.get_by_text(before, exact=True)).to_have_count(0)
    for text in ("the first line", "line 499"):
        page.get_by_label("Search the log").fill(text)
        expect(page.get_by_text("1 of 1", exact=True)).to_be_visible()


def test_another_journal_takes_the_place_of_the_old_one(site: Site, visitor: Visitor) -> None:
    page, host = visitor.page, site.host
    task_id = host.submit("true", title="as it was", hold=True)
    directory = Path(host.paths.path)
    host.stop()
    backup = host.root / "backup"
    backup.mkdir()
    for file in directory.glob("*.db*"):
        shutil.copy(file, backup)
    host.start()
    visitor.go("tasks", task_id)
    for number in range(3):
        host.call("task.update", id=task_id, title=f"as it became {number}")
    expect(page.get_by_role("heading", name="as it became 2")).to_be_visible()
    until(lambda: shown_seqs(page) == told(site, task_id), "the timeline has what the journal has")
    assert len(told(site, task_id)) > 3
    host.stop()
    for file in directory.glob("*.db*"):
        file.unlink()
    for file in backup.iterdir():
        shutil.copy(file, directory)
    host.start()
    expect(page.get_by_role("heading", name="as it was")).to_be_visible()
    until(lambda: shown_seqs(page) == told(site, task_id), "the timeline has what the other journal has")


def test_who_signs_out_and_in_at_once_has_one_connection(site: Site, visitor: Visitor) -> None:
    again = site.visitor()
    page = again.page
    page.add_init_script(
        """(() => {
          const [close, begin, end] = [WebSocket.prototype.close, setInterval, clearInterval];
          window.closing = [];
          WebSocket.prototype.close = function () { window.closing.push(() => close.call(this)); };
          window.clocks = new Set();
          window.setInterval = (...given) => { const clock = begin(...given); clocks.add(clock); return clock; };
          window.clearInterval = (clock) => { clocks.delete(clock); end(clock); };
        })()"""
    )
    page.reload()
    foot = page.locator(".foot")
    expect(foot).not_to_contain_text("reading")
    clocks = page.evaluate("clocks.size")
    page.get_by_role("button", name="Sign out").click()
    again.sign_in(site.key)
    expect(foot).not_to_contain_text("reading")
    assert page.evaluate("[clocks.size, closing.length]") == [clocks, 1]
    page.evaluate("closing.forEach(close => close())")
    page.close()


class Line:
    """Between a page and the daemon, which is made to fail at the wrong moment."""

    def __init__(self, page: Page) -> None:
        self.held: set[str] = set()
        """Methods whose calls do not get through."""
        self.refused: set[str] = set()
        """What is in calls that are refused."""
        self.sockets: list[WebSocketRoute] = []
        page.route_web_socket("**/rpc", self._join)

    def _join(self, socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        self.sockets.append(socket)

        def carry(message: str | bytes) -> None:
            asked = json.loads(message)
            if any(word in str(message) for word in self.refused):
                error = {"code": -32000, "message": "the store is away", "data": {"type": "unavailable"}}
                socket.send(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "error": error}))
            elif asked["method"] not in self.held:
                server.send(message)

        socket.on_message(carry)


def test_contact_that_ends_in_the_middle_of_reading_loses_nothing(site: Site, visitor: Visitor) -> None:
    host = site.host
    other = site.visitor()
    page = other.page
    line = Line(page)
    task_id = host.submit("true", title="much told", hold=True)
    line.held.add("event.list")
    page.goto(f"{site.url}#/tasks/{task_id}")
    page.reload()
    expect(page.get_by_role("heading", name="much told")).to_be_visible()
    host.call("task.update", id=task_id, title="told since")
    expect(page.get_by_label("Timeline").get_by_role("listitem")).to_have_count(1)  # what came before is not read yet
    line.held.clear()
    line.sockets[-1].close(code=4000)
    expect(page.get_by_label("Timeline").get_by_role("listitem")).to_have_count(len(told(site, task_id)))
    assert shown_seqs(page) == told(site, task_id)
    other.go("tasks")
    expect(row(page, "told since")).to_be_visible()
    line.refused.add('"ids"')
    host.call("task.update", id=task_id, title="renamed")
    expect(page.get_by_role("alert")).to_have_text("the store is away")
    line.refused.clear()
    host.submit("true", title="another", hold=True)
    expect(row(page, "another")).to_be_visible()
    expect(row(page, "renamed")).to_be_visible()
    page.close()


def test_a_daemon_that_stands_still_is_noticed(site: Site, visitor: Visitor) -> None:
    """It closes no connection, and answers no closing handshake, which a browser awaits for a minute."""
    page = site.visitor().page
    page.clock.install()
    page.reload()
    expect(page.locator(".foot")).not_to_contain_text("reading")
    assert site.host.daemon is not None
    os.kill(site.host.daemon.pid, signal.SIGSTOP)
    try:
        page.clock.run_for(30_000)
        expect(page.get_by_role("alert")).to_contain_text("No contact")
    finally:
        os.kill(site.host.daemon.pid, signal.SIGCONT)
    expect(page.get_by_text("No contact")).to_have_count(0)
    page.close()


def test_between_two_attempts_nothing_goes_on(site: Site, visitor: Visitor) -> None:
    page, host = visitor.page, site.host
    task_id = host.submit("false", title="once more", max_retries=1, retry_delay=3600)
    expect(row(page, "once more")).to_be_visible()
    until(lambda: host.task(task_id)["retries"] == 1, "it waits for its second attempt")
    expect(row(page, "once more").locator(".took")).to_have_text(short(host.task(task_id)["result"]["duration"]))
    visitor.go("tasks", task_id, "999999")  # rather than the log of another run
    expect(page.get_by_role("alert")).to_have_text(f"task {task_id} has no run 999999")
    visitor.go("queues", "no such queue")
    assert page.get_by_label("Queue").input_value() == "no such queue"
    host.call("task.cancel", select={"ids": [task_id]})


def test_a_mission_in_which_everything_waits_for_everything(site: Site, visitor: Visitor) -> None:
    """A layout of it would take minutes, in which the page does nothing else."""
    titles = [f"part {n}" for n in range(150)]
    tasks = [{"title": title, "command": ["true"], "dependsOn": titles[:n]} for n, title in enumerate(titles)]
    mission = site.host.call("mission.create", document=json.dumps({"tasks": tasks}), name="dense")["id"]
    visitor.go("missions", mission)
    expect(visitor.page.get_by_label("task part 149: not started")).to_be_visible()
    assert visitor.page.locator("path.edge").count() == 150 * 149 // 2


def test_colours_can_be_read(site: Site, visitor: Visitor) -> None:
    """WCAG AA: a contrast of 4.5 at least, in light and dark."""
    page = visitor.page
    on = {"card": ["faint", "ink", "accent", "bad", *(f"ansi-{n}" for n in range(16))], "page": ["faint", "accent"]}
    on |= {"hover": ["faint", "accent"], "rest-page": ["faint"], "ink": ["page"]}
    on |= {f"{tone}-page": [tone] for tone in ("good", "bad", "busy", "ask")}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for ground, colours in on.items():
            for colour in colours:
                pair = page.evaluate(
                    """pair => pair.map(name => {
                      document.body.style.color = `var(--${name})`;
                      return getComputedStyle(document.body).color.match(/\\d+/g).map(Number);
                    })""",
                    [ground, colour],
                )
                dark, light = sorted(map(luminance, pair))
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (scheme, ground, colour)
    page.evaluate("document.body.style.color = ''")


def luminance(rgb: list[int]) -> float:
    """Relative, as WCAG defines it."""
    red, green, blue = ((c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4) for c in (n / 255 for n in rgb))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue

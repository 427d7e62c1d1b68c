"""What a runner and the daemon agree on: the RunStore's table, its frozen statements, and the run directory.

Rules:

1. Standard library only, and no import of polpod: an old runner keeps using the copy it was started with.
2. A statement here never changes its meaning.  `MIGRATIONS` only adds (columns, indexes), so that an old runner works
   with a new daemon and a new runner with the daemon of one release before.
3. Whoever decides first wins: each statement is one compare-and-set on `status`, and a statement that changed no row
   says that somebody else decided.
4. A runner makes single autocommit statements, at `synchronous=NORMAL`, and never a checkpoint.

A run's life is `starting → running → completed | failed | killed | lost`, and `starting → lost`.
"""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from typing import Any, Final, Literal, NotRequired, TypedDict

VERSION: Final = 1

LIVE: Final = ("starting", "running")
TERMINAL: Final = ("completed", "failed", "killed", "lost")

BUSY_TIMEOUT: Final = 5.0
"""Seconds that a statement waits for another writer of runs.db."""

CLAIM_TIMEOUT: Final = 30.0
"""Seconds after the row was inserted in which a runner may claim it; the daemon decides `CLAIM_MARGIN` later."""

CLAIM_MARGIN: Final = 5.0

KILL_GRACE: Final = 10.0
"""Seconds from TERM to KILL, unless the kill row says otherwise."""

LEFTOVER_GRACE: Final = 5.0
"""Seconds from TERM to KILL for what a main process left behind."""

DURATION_MARGIN: Final = 30.0
"""Seconds past `max_duration` after which a runner acts by itself: the daemon was first to be asked."""

HEARTBEAT_EVERY: Final = 60.0
"""Seconds between the heartbeats of a runner whose daemon is gone."""

LOG_LIMIT: Final = 64 * 2**20
LOG_HEAD: Final = 2**20

EXIT_SIZE: Final = 4096
"""Bytes preallocated for the second witness, so that a full disk cannot refuse it."""

ASSESSMENT_SIZE: Final = 2**20
"""Bytes of what checks found that are believed."""

OUTCOME: Final = (
    "status",
    "reason",
    "exit_code",
    "signal",
    "error",
    "ended_at",
    "duration",
    "cpu_seconds",
    "max_rss",
    "leftovers",
)
"""The columns that a terminal record sets, all at once; also the keys of exit.json and of the reported payload."""

IDENTITY: Final = (
    "pid",
    "pid_ns",
    "start_ticks",
    "pidfd_inode",
    "job_pid",
    "job_start_ticks",
    "started_at",
    "started_mono",
)
"""The columns that a claim sets beside `status`."""


class RunSpec(TypedDict):
    """spec.json: all that a runner is told.  Every path is absolute, and the secrets are why the file is 0600.

    A key is never taken away and never changes its meaning; a runner ignores those that it does not know.
    """

    version: int
    run_id: int
    task_id: str
    attempt: int
    nonce: str
    """Names the run's row and its reports; never given to the job."""
    token: str
    """The job's own secret, POLPO_TOKEN."""
    runs_db: str
    socket: str
    daemon_lock: str
    """Held by a living daemon; without one, the runner writes its own heartbeats."""
    argv: list[str]
    """What is executed, looked up in the PATH of `env`; a shell text comes as `["/bin/sh", "-c", text]`."""
    cwd: str
    env: dict[str, str]
    umask: int
    stdin: str | None
    log_path: str
    log_limit: int
    """Bytes of the log that stay on disk, LOG_LIMIT by default."""
    log_head: int
    """Bytes at the log's beginning that always stay, LOG_HEAD by default."""
    containment: Literal["cgroup", "session"]
    cgroup: str | None
    claim_until_mono: int
    """CLOCK_MONOTONIC, nanoseconds."""
    kill_grace: float
    leftovers: Literal["kill", "keep"]
    max_duration: float | None
    rlimits: dict[str, list[int]]
    """Soft and hard limit by the name of the constant (`RLIMIT_NOFILE`); -1 is no limit."""
    nice: int
    oom_score_adj: int
    """Both as far as the runner may set them: an unprivileged one cannot lower what it inherited."""
    own_nice: NotRequired[int]
    """What the task asked for: instead of `nice`, and nothing is executed without it."""
    limits: NotRequired[dict[str, str]]
    """What is written to which files of the run's cgroup; nothing is executed if one of them cannot be set."""


class Check(TypedDict):
    """One check, or one metric, that a run of phase `review` carries out."""

    type: str
    """`test`, `script`, `file_exists`, `llm_review`, `metric`; or `unreadable`, of which nothing can be told."""
    label: str
    confidence: str
    timeout: float
    """Seconds."""
    argv: NotRequired[list[str]]
    paths: NotRequired[list[str]]
    name: NotRequired[str]
    """A metric's."""
    threshold: NotRequired[float]
    criteria: NotRequired[str | None]
    dimensions: NotRequired[list[dict[str, Any]]]
    """Each with `name`, `weight`, and what else a reviewer is told of it."""
    reviewers: NotRequired[int]


class ReviewSpec(TypedDict):
    """review.json: what a run of phase `review` is told.  Keys as in RunSpec."""

    version: int
    run_id: int
    task: dict[str, Any]
    """What reviewers are told of it."""
    checks: list[Check]
    grace: float
    """Seconds from TERM to KILL for a check that takes too long."""
    result: str
    """Where the assessment is written."""


MIGRATIONS: Final = (
    """
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        task_id TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        queue TEXT NOT NULL,
        agent TEXT,
        nonce TEXT NOT NULL,
        token_hash TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('starting','running','completed','failed','killed','lost')),
        reason TEXT CHECK (reason IN ('exited','signalled','oom','spawn_failed','timeout','stale','cancelled',
                                      'shutdown','lost','never_started')),
        created_at TEXT NOT NULL,
        boot_id TEXT NOT NULL,
        claim_until_mono INTEGER NOT NULL,
        containment TEXT NOT NULL CHECK (containment IN ('cgroup','session')),
        cgroup TEXT,
        log_path TEXT NOT NULL,
        max_duration REAL,
        stale_threshold REAL,
        pid INTEGER, pid_ns INTEGER, start_ticks INTEGER, pidfd_inode INTEGER,
        job_pid INTEGER, job_start_ticks INTEGER,
        started_at TEXT, started_mono INTEGER,
        exit_code INTEGER, signal INTEGER, error TEXT,
        ended_at TEXT, duration REAL,
        cpu_seconds REAL, max_rss INTEGER, leftovers INTEGER,
        kill_reason TEXT, kill_by TEXT, kill_at TEXT, kill_mono INTEGER, kill_boot TEXT, kill_grace REAL,
        heartbeat_at TEXT, activity_at TEXT,
        seen_at TEXT, collected_at TEXT,
        CHECK ((status IN ('starting','running')) = (reason IS NULL))
    ) STRICT;
    CREATE UNIQUE INDEX runs_one_live ON runs (task_id) WHERE status IN ('starting','running');
    CREATE INDEX runs_of_task ON runs (task_id, id);
    CREATE INDEX runs_uncollected ON runs (id) WHERE collected_at IS NULL;
    CREATE TRIGGER runs_outcome_is_final BEFORE UPDATE OF
        id, task_id, attempt, nonce, status, reason, exit_code, signal, error, ended_at, duration, cpu_seconds,
        max_rss, leftovers, pid, start_ticks, job_pid, started_at, boot_id ON runs
    WHEN OLD.status NOT IN ('starting','running')
    BEGIN SELECT RAISE(ABORT, 'the outcome of a run is final'); END;
    """,
    "ALTER TABLE runs ADD COLUMN command TEXT;",
    "ALTER TABLE runs ADD COLUMN phase TEXT NOT NULL DEFAULT 'execution';",
)
"""Scripts that lead from `user_version` n to n + 1."""


def _set(columns: tuple[str, ...]) -> str:
    return ", ".join(f"{c} = :{c}" for c in columns)


CLAIM: Final = (
    f"UPDATE runs SET status = 'running', {_set(IDENTITY)} WHERE id = :id AND nonce = :nonce AND status = 'starting'"
)
"""By the runner, with its job blocked: no row changed means that nothing may be executed."""

FINISH: Final = (
    f"UPDATE runs SET {_set(OUTCOME)} WHERE id = :id AND nonce = :nonce AND status IN ('starting','running')"
)
"""By the runner, or by the daemon from exit.json or from a report that carries the nonce: who claimed once may finish,
even if a power cut took the claim back."""

NEVER_STARTED: Final = (
    "UPDATE runs SET status = 'lost', reason = 'never_started', error = :error, ended_at = :ended_at "
    "WHERE id = :id AND status = 'starting'"
)
"""By the daemon: from now on no runner can claim the row."""

LOST: Final = (
    "UPDATE runs SET status = 'lost', reason = 'lost', error = :error, ended_at = :ended_at "
    "WHERE id = :id AND status IN ('starting','running')"
)
"""By the daemon, after the runner's death was proven and both witnesses were read once more; of a row that says `starting`
only in another boot, where a power cut may have taken a claim back."""

REQUEST_KILL: Final = (
    "UPDATE runs SET kill_reason = :kill_reason, kill_by = :kill_by, kill_at = :kill_at, kill_mono = :kill_mono, "
    "kill_boot = :kill_boot, kill_grace = :kill_grace "
    "WHERE id = :id AND status IN ('starting','running') AND kill_reason IS NULL"
)
"""First wins: a shutdown never overwrites a cancel."""

KILL_REQUEST: Final = "SELECT kill_reason, kill_grace FROM runs WHERE id = :id AND nonce = :nonce"

HEARTBEAT: Final = (
    "UPDATE runs SET heartbeat_at = :heartbeat_at WHERE id = :id AND nonce = :nonce AND status = 'running'"
)

STATUS_OF_KILL: Final = {
    "timeout": "killed",
    "stale": "killed",
    "cancelled": "killed",
    "shutdown": "killed",
    "signalled": "failed",
}
"""What a run that was ended becomes, by the reason of its kill; `signalled`: a TERM that no kill row explains."""


def connect(path: str, *, timeout: float = BUSY_TIMEOUT) -> sqlite3.Connection:
    """Open runs.db as a runner does: autocommit, NORMAL, no checkpoints.

    Raises sqlite3.Error if the file is not there or not a database; RuntimeError if it is not in WAL mode.
    """
    db = sqlite3.connect(f"file:{path}?mode=rw", uri=True, isolation_level=None, timeout=timeout)
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA wal_autocheckpoint = 0")
    (mode,) = db.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        raise RuntimeError(f"{path}: journal_mode is {mode}, not wal")
    return db


def run_mark(nonce: str) -> str:
    """POLPO_RUN_MARK: with POLPO_RUN_ID it tells this run's processes from those of another state directory's run.

    Made from the nonce, so that the daemon finds it again from the row; 32 bits that leave the rest of it secret.
    """
    return f"{zlib.crc32(nonce.encode()):08x}"


def timestamp(seconds: float | None = None) -> str:
    """An instant (seconds since the epoch, default now) as RFC 3339 UTC with microseconds: text order is time order."""
    ns = time.time_ns() if seconds is None else int(seconds * 1e9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(ns // 10**9))}.{ns // 1000 % 10**6:06d}Z"


def require_timestamp(text: object) -> None:
    """Raises ValueError for what is no instant as `timestamp` has it."""
    from datetime import datetime  # here, since a runner loads this module too and asks nothing of the kind

    if not (isinstance(text, str) and text.endswith("Z")):
        raise ValueError(f"{text!r} is no instant in UTC")
    datetime.fromisoformat(text)


def encode_exit(payload: dict[str, Any]) -> bytes:
    """exit.json: the payload (`id`, `nonce` and OUTCOME) with a checksum, padded to EXIT_SIZE bytes."""
    body = json.dumps(payload, separators=(",", ":"))
    return json.dumps({"crc32": zlib.crc32(body.encode()), "body": body}).encode().ljust(EXIT_SIZE, b" ")


def decode_exit(data: bytes) -> dict[str, Any]:
    """The payload of exit.json.  Raises ValueError if it is empty, cut short or altered (F25)."""
    envelope = json.loads(data)
    if not isinstance(envelope, dict) or zlib.crc32(str(envelope.get("body")).encode()) != envelope.get("crc32"):
        raise ValueError("its checksum does not match")
    payload = json.loads(envelope["body"])
    if not isinstance(payload, dict) or not payload.keys() >= {"id", "nonce", *OUTCOME}:
        raise ValueError("not the record of a run")
    require_timestamp(payload["ended_at"])
    return payload

"""The commands, with a line on each: what `polpoctl --help` lists, and what a first argument may be."""

from __future__ import annotations

COMMANDS = {
    "init": "make .polpo/ with polpo.json, to set things before the first start",
    "start": "start a polpod, detached, for this user",
    "stop": "ask polpod to stop, and wait until it has",
    "reload": "have polpod go on with the code and configuration that are there now",
    "status": "say how polpod is, and count its work (what polpoctl alone does)",
    "submit": "hand in a task, and print its id",
    "run": "hand in a task, follow its log, and exit as it does",
    "list": "list what is not finished, and what finished lately",
    "show": "show a task with its runs",
    "runs": "list runs, newest first",
    "why": "say why a task waits or failed, and what to do",
    "logs": "print what a task wrote",
    "wait": "wait until tasks end",
    "cancel": "cancel tasks, ending what runs",
    "retry": "run tasks again",
    "remove": "forget tasks that do not run",
    "hold": "keep tasks from starting",
    "release": "let held tasks start",
    "pause": "let nothing more start from a queue",
    "resume": "let a paused queue start tasks again",
    "queue": "list the queues, or set the slots of one",
    "a2a": "list, show or forget the tasks that agents send each other (A2A)",
    "edit": "change tasks that do not run",
    "report": "say, from inside a run, how far it is, or that it goes on",
    "events": "print what happened",
    "doctor": "find and explain what is wrong with polpod, its directory and this host",
    "backup": "copy the databases, beside a polpod that runs",
    "store": "check, restore or salvage the databases, or forget what is over",
    "rpc": "call a method of the socket",
    "config": "show, check and change polpo.json",
    "completion": "print a completion script for a shell",
}

DEFAULT = "status"

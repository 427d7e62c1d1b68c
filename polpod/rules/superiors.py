"""To whom agents report: what one cannot do goes to the next, so that the line has an end."""

from __future__ import annotations

from collections.abc import Mapping

from polpod.model.agents import Agent


def fault(name: str, reports_to: str | None, agents: Mapping[str, Agent]) -> str | None:
    """What is wrong with the agent `name` reporting to that one of these; None: nothing."""
    if reports_to is not None and reports_to != name and reports_to not in agents:
        return f"there is no agent {reports_to}: `polpoctl agent list` shows them"
    line = [name]
    while reports_to is not None:
        line.append(reports_to)
        if reports_to in line[:-1]:
            return f"a circle: {' → '.join(line)}"
        superior = agents.get(reports_to)
        reports_to = None if superior is None else superior.reports_to
    return None

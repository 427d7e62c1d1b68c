"""Where the checkpoints and delays of missions stand: functions of a transaction."""

from __future__ import annotations

from typing import TypeVar

from msgspec import structs

from polpod.contracts.taskstore import said
from polpod.model.polpo.missions import CheckpointState, DelayState
from polpod.store.polpo import SOLE, MissionCheckpoints, MissionDelays, Sole
from polpod.store.records import Tx

S = TypeVar("S", CheckpointState, DelayState)


def load_checkpoints(tx: Tx) -> CheckpointState:
    """As it was saved last; empty before."""
    stored = tx[MissionCheckpoints].get(SOLE)
    return CheckpointState() if stored is None else stored.value


def save_checkpoints(tx: Tx, state: CheckpointState) -> None:
    """In place of what was there.  Raises InvalidRequest for what is no such state."""
    tx[MissionCheckpoints].save(Sole(SOLE, said.value("state", state, CheckpointState)))


def load_delays(tx: Tx) -> DelayState:
    """As it was saved last; empty before."""
    stored = tx[MissionDelays].get(SOLE)
    return DelayState() if stored is None else stored.value


def save_delays(tx: Tx, state: DelayState) -> None:
    """In place of what was there.  Raises InvalidRequest for what is no such state."""
    tx[MissionDelays].save(Sole(SOLE, said.value("state", state, DelayState)))


def without_group(state: S, group: str) -> S:
    """The state without that group, and no other."""
    values = structs.asdict(state)
    return type(state)(**{name: {g: of for g, of in by.items() if g != group} for name, by in values.items()})


def remove_checkpoints(tx: Tx, group: str) -> CheckpointState:
    """Forget a group; the state without it."""
    state = without_group(load_checkpoints(tx), group)
    save_checkpoints(tx, state)
    return state


def remove_delays(tx: Tx, group: str) -> DelayState:
    """Forget a group; the state without it."""
    state = without_group(load_delays(tx), group)
    save_delays(tx, state)
    return state

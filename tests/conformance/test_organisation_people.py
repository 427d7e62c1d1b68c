"""Users and their keys (A.11 users, api_keys; A.8)."""

from __future__ import annotations

import pytest
from kit.organisation import T0, TICK, a_key, a_user

from polpod import persistence as p

pytestmark = pytest.mark.anyio


async def test_users_are_found_by_name(backend: p.PersistenceBackend) -> None:
    """A.11 users: by username hit and miss; A.5.2: exact, and of that case."""
    await backend.users.save(a_user())
    assert await backend.users.get_by_username("eve") == a_user()
    assert await backend.users.get_by_username("Eve") is None
    assert await backend.users.get_by_username("ev*") is None


async def test_humans_are_listed_and_counted(backend: p.PersistenceBackend) -> None:
    """A.11 users: list, oldest first; count; both exclude the system user; count_by_role does not, and filters."""
    assert (await backend.users.list_users(), await backend.users.count()) == ((), 0)
    assert await backend.users.count_by_role(p.HumanRole.MANAGER) == 0
    young = a_user(id="u2", username="bob", created_at=T0 + TICK)
    await backend.users.save(young)
    await backend.users.save(a_user())
    await backend.users.save(a_user(id="system", username="system", role="system"))
    assert await backend.users.list_users() == (a_user(), young)
    assert await backend.users.count() == 2
    assert await backend.users.count_by_role(p.HumanRole.MANAGER) == 2
    assert await backend.users.count_by_role(p.HumanRole.SYSTEM) == 1
    assert await backend.users.count_by_role(p.HumanRole.CEO) == 0


async def test_the_system_user_stays(backend: p.PersistenceBackend) -> None:
    """A.11 users: delete("system") raises, whether there is one or not."""
    for _ in range(2):
        with pytest.raises(p.QueryError, match="System user cannot be deleted"):
            await backend.users.delete("system")
        await backend.users.save(a_user(id="system", username="system", role="system"))
    assert await backend.users.get("system") is not None


async def test_a_user_changes_its_name_and_keeps_its_birth(backend: p.PersistenceBackend) -> None:
    """A.11 users: upsert changes username without adding a row; A.5.1: created_at is kept from the first save."""
    await backend.users.save(a_user())
    await backend.users.save(a_user(username="eva", created_at=T0 + TICK, updated_at=T0 + TICK))
    assert await backend.users.get("u1") == a_user(username="eva", updated_at=T0 + TICK)
    assert await backend.users.count() == 1


async def test_usernames_are_taken_once(backend: p.PersistenceBackend) -> None:
    """A.11.2: duplicate username is a QueryError, on insert and on update."""
    await backend.users.save(a_user())
    await backend.users.save(a_user(id="u2", username="bob"))
    for taken in (a_user(id="u3"), a_user(id="u2")):
        with pytest.raises(p.QueryError, match="users: another record has this"):
            await backend.users.save(taken)
    assert [user.username for user in await backend.users.list_users()] == ["eve", "bob"]


async def test_there_is_one_ceo_at_most(backend: p.PersistenceBackend) -> None:
    """A.11.2: a second `ceo` is a QueryError; of other roles there are many."""
    await backend.users.save(a_user(role="ceo"))
    await backend.users.save(a_user(role="ceo", must_change_password=False))
    await backend.users.save(a_user(id="u2", username="bob"))
    for second in (a_user(id="u2", username="bob", role="ceo"), a_user(id="u3", username="cid", role="ceo")):
        with pytest.raises(p.QueryError):
            await backend.users.save(second)
    assert await backend.users.count_by_role(p.HumanRole.CEO) == 1
    assert await backend.users.delete("u1")
    await backend.users.save(a_user(id="u2", username="bob", role="ceo"))


async def test_keys_are_found_by_hash_and_by_user(backend: p.PersistenceBackend) -> None:
    """A.11 api_keys: by hash; list by user, oldest first; A.5.2: revoked and expired ones, too; created_at is kept."""
    await backend.users.save(a_user())
    await backend.users.save(a_user(id="u2", username="bob"))
    young = a_key(id="k2", key_hash="2", created_at=T0 + TICK, revoked=True, expires_at=T0)
    await backend.api_keys.save(young)
    await backend.api_keys.save(a_key())
    await backend.api_keys.save(a_key(id="k3", key_hash="3", user_id="u2"))
    await backend.api_keys.save(a_key(created_at=T0 + TICK, name="desk"))
    assert await backend.api_keys.get_by_hash("2") == young
    assert await backend.api_keys.get_by_hash("nobody's") is None
    assert await backend.api_keys.list_by_user("u1") == (a_key(name="desk"), young)


async def test_a_key_is_of_a_user_and_goes_with_it(backend: p.PersistenceBackend) -> None:
    """A.8, A.11.2: an unknown user is a QueryError; deleting a user takes the keys along, saving it does not."""
    with pytest.raises(p.QueryError, match="api_keys: it names a record that is not there"):
        await backend.api_keys.save(a_key())
    await backend.users.save(a_user())
    await backend.api_keys.save(a_key())
    await backend.users.save(a_user(username="eva"))
    assert await backend.api_keys.get("k1") == a_key()
    assert await backend.users.delete("u1")
    assert await backend.api_keys.get("k1") is None


async def test_a_key_s_hash_is_taken_once(backend: p.PersistenceBackend) -> None:
    """A.5.1 api_keys: the same key_hash on another id is a QueryError."""
    await backend.users.save(a_user())
    await backend.api_keys.save(a_key())
    with pytest.raises(p.QueryError):
        await backend.api_keys.save(a_key(id="k2"))


def test_secrets_are_not_shown() -> None:
    """A.7 User, ApiKey: hidden in repr, and in JSON all the same."""
    for entity, secret in ((a_user(password_hash="secret"), b"secret"), (a_key(key_hash="secret"), b"secret")):
        assert "secret" not in repr(entity)
        assert "secret" not in str(entity.__rich_repr__())
        assert secret in entity.to_json()

# SPDX-License-Identifier: Apache-2.0
"""One authority takes over from another while nodes are connected; all health managers share those of the database."""

import asyncio
import stat
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from certificates import Authority as Site

from statera.config import Certificates
from statera.errors import SetupError
from statera.fleet.authority import Authority
from statera.fleet.ca import key_pem, make_root, pem
from statera.model.authorities import HEED_TIME, Sign, Withdraw
from statera.store import authorities, tables
from statera.store.secrets import ensure_sealer


def authority_of(world, state=None, **certificates):
    """As another process of this installation would have it."""
    default = msgspec.structs.replace(world.settings.default, state_path=str(state or world.state))
    settings = msgspec.structs.replace(world.settings, default=default, certificates=Certificates(**certificates))
    return Authority(world.store, ensure_sealer(world.settings.master_key), settings)


def add(world):
    made = make_root()
    sealed = ensure_sealer(world.settings.master_key).seal(key_pem(made.key).encode())
    with world.store.write() as connection:
        authorities.add(connection, made.id, certificate=pem(made.certificate), sealed=sealed,
                        after=authorities.newest(connection))
    return made.id


def step(world):
    with world.store.write() as connection:
        return authorities.advance(connection)


def long_since(world, id):
    """Nobody can have missed any more that this one signs."""
    since = world.row(tables.authorities, id).signs_since
    world.change(tables.authorities, id, signs_since=since - HEED_TIME)


def test_those_that_start_at_once_share_one(world):
    with world.store.write() as connection:
        connection.execute(tables.authorities.delete())
    with ThreadPoolExecutor(6) as threads:
        made = list(threads.map(lambda number: authority_of(world, world.folder / str(number)).ids, range(6)))
    assert len(set(made)) == 1
    assert len(made[0]) == 1


def test_what_a_host_shows_is_for_its_owner_alone_and_kept(world):
    world.authority.certify()
    shown = world.authority.server_file.read_bytes()
    assert stat.S_IMODE(world.authority.server_file.stat().st_mode) == 0o600
    assert not authority_of(world).certify()
    assert world.authority.server_file.read_bytes() == shown


def test_the_key_is_sealed(world):
    row = world.row(tables.authorities, world.authority.id)
    assert "PRIVATE KEY" not in row.sealed
    assert b"PRIVATE KEY" in ensure_sealer(world.settings.master_key).open(row.sealed)


def test_another_master_key_says_what_to_do(world):
    (world.folder / "other").mkdir()
    with pytest.raises(SetupError, match=r"put the same .* on every host"):
        Authority(world.store, ensure_sealer(world.folder / "other" / "key"), world.settings)


def test_one_of_an_earlier_release_is_taken_over_once_and_not_again_after_it_was_withdrawn(world):
    former, folder = make_root(), world.folder / "former" / "pki"
    folder.mkdir(parents=True)
    for name, text in (("ca.key", key_pem(former.key)), ("ca.pem", pem(former.certificate))):
        (folder / name).write_text(text)
    with world.store.write() as connection:
        connection.execute(tables.authorities.delete())
    assert authority_of(world, folder.parent).ids == (former.id,)
    assert not (folder / "ca.key").exists()
    new = add(world)
    assert step(world) == Sign(new)
    long_since(world, new)
    assert step(world) == Withdraw(former.id)
    (folder / "ca.key").write_text(key_pem(former.key))
    (folder / "ca.pem").write_text(pem(former.certificate))
    assert authority_of(world, folder.parent).ids == (new,)


def test_an_authority_of_the_operators_own_takes_over(world):
    own = Site("our company")
    (world.folder / "ca.pem").write_text(own.pem)
    (world.folder / "ca.key").write_text(own.key_pem)
    files = {"ca_certificate": str(world.folder / "ca.pem"), "ca_private_key": str(world.folder / "ca.key")}
    before = world.authority.id
    both = authority_of(world, **files)
    assert both.ids[0] == before
    assert len(both.ids) == 2
    assert step(world) == Sign(both.ids[1])
    assert authority_of(world, **files).id == both.ids[1]


def test_files_that_are_no_authority_say_so(world):
    with pytest.raises(SetupError, match="cannot use the certificate authority /nowhere/ca"):
        authority_of(world, ca_certificate="/nowhere/ca.pem", ca_private_key="/nowhere/ca.key")


def test_nodes_learn_a_new_authority_and_lose_the_old_one_without_losing_their_connection(world, until):
    identities = [world.identity(f"node-{number}") for number in (1, 2)]
    old = world.authority.id

    def issuers():
        return {world.row(tables.nodes, identity.node_id).issuer for identity in identities}

    async def story():
        async with world.service() as service, world.node(identities[0]) as one:
            async with world.node(identities[1]):
                await until(lambda: len(service.sessions) == 2)
                first = dict(service.sessions)
                new = await asyncio.to_thread(add, world)
                await until(lambda: step(world) == Sign(new))
                assert all(set(identity.trusts) == {old, new} for identity in identities)
                await until(lambda: issuers() == {new})
                await until(lambda: world.row(tables.managers, service.manager_id).issuer == new)
                long_since(world, new)
                await until(lambda: step(world) == Withdraw(old))
                await until(lambda: all(identity.trusts == (new,) for identity in identities))
                assert service.sessions == first
            await until(lambda: len(service.sessions) == 1)
            async with world.node(identities[1]) as again:  # shows and believes the new one alone
                await until(lambda: again.rosters)
            assert one.rosters

    asyncio.run(story())


def test_who_shows_a_withdrawn_authoritys_certificate_is_cut_off(world, until):
    identity = world.identity("node-1")
    world.change(tables.nodes, identity.node_id, certificate_expires_at=None)  # nobody waits for it

    async def story():
        async with world.service() as service:
            new = await asyncio.to_thread(add, world)
            await until(lambda: step(world) == Sign(new))
            await until(lambda: world.row(tables.managers, service.manager_id).issuer == new)
            long_since(world, new)
            await until(lambda: isinstance(step(world), Withdraw))
            await until(lambda: service._authority.ids == (new,))
            identity.learn(service._authority.roots)
            async with world.node(identity) as host:
                await asyncio.sleep(1)
                assert not host.rosters
                assert not service.sessions

    asyncio.run(story())


def test_a_node_that_is_away_holds_an_exchange_up_until_its_certificate_ends(world):
    identity = world.identity("away")
    new = add(world)
    waits = step(world)
    assert waits.holders == ("node away",)
    world.change(tables.nodes, identity.node_id, certificate_expires_at=None)
    assert step(world) == Sign(new)

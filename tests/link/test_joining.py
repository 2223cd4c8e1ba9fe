# SPDX-License-Identifier: Apache-2.0
"""Who may connect, and how a machine becomes somebody."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from cryptography import x509

from statera.agent.identity import Identity, trusting
from statera.agent.joining import join
from statera.errors import SetupError
from statera.fleet.ca import NODE, make_root, pem
from statera.fleet.enrolment import enrol_local
from statera.store import nodes, tables


def join_as(world, name, token, fingerprint=None):
    identity = Identity(world.folder / f"join-{name}")
    return identity, join(
        identity, endpoint=f"127.0.0.1:{world.port}", token=token, name=name,
        fingerprint=fingerprint or world.authority.id)


def test_a_token_makes_a_node_and_the_node_connects(world, until):
    async def story():
        async with world.service():
            identity, joining = join_as(world, "edge-1", world.token())
            node_id = await joining
            assert identity.node_id == node_id
            async with world.node(identity) as host:
                await until(lambda: host.rosters)
            with world.store.read() as connection:
                (row,) = nodes.list_nodes(connection)
            assert (row.name, row.heard, row.id) == ("edge-1", True, node_id)
            assert row.certificate_expires_at == identity.expires_at.replace(tzinfo=None)

    asyncio.run(story())


@pytest.mark.parametrize(("token", "why"), [
    pytest.param(lambda world: "wrong", "unknown", id="a wrong token"),
    pytest.param(lambda world: world.token(seconds=-1), "expired", id="an expired token"),
    pytest.param(lambda world: world.token(name="other"), "is for node other", id="another node's token"),
])
def test_refused(world, token, why):
    async def story():
        async with world.service():
            identity, joining = join_as(world, "edge-1", token(world))
            with pytest.raises(SetupError, match=why):
                await joining
            assert not identity.exists

    asyncio.run(story())


def test_a_token_is_good_once(world):
    token = world.token()

    async def story():
        async with world.service():
            await join_as(world, "edge-1", token)[1]
            with pytest.raises(SetupError, match="used up"):
                await join_as(world, "edge-2", token)[1]

    asyncio.run(story())


def test_a_name_that_is_taken_needs_a_token_for_that_name(world):
    async def story():
        async with world.service():
            first = await join_as(world, "edge-1", world.token())[1]
            with pytest.raises(SetupError, match="a token made for that name"):
                await join_as(world, "edge-1", world.token())[1]
            assert await join_as(world, "edge-1", world.token(name="edge-1"))[1] == first

    asyncio.run(story())


def test_the_token_goes_to_nobody_but_the_expected_authority(world):
    token = world.token()

    async def story():
        async with world.service():
            with pytest.raises(SetupError, match="does not have that fingerprint"):
                await join_as(world, "edge-1", token, fingerprint="ab" * 32)[1]
            await join_as(world, "edge-1", token)[1]

    asyncio.run(story())


async def knock(world, tls):
    """The status of the answer at the link's door."""
    async with aiohttp.ClientSession() as client:
        try:
            async with client.ws_connect(f"wss://127.0.0.1:{world.port}/v1/link", ssl=tls):
                return 101
        except aiohttp.WSServerHandshakeError as error:
            return error.status
        except (aiohttp.ClientError, OSError):
            return "cut off"


def test_without_a_certificate_there_is_no_link(world):
    async def story():
        async with world.service():
            assert await knock(world, trusting(world.authority.roots)) == 403

    asyncio.run(story())


def test_a_foreign_certificate_is_cut_off(world):
    foreign = make_root()
    identity = world.identity("node-1")
    key = x509.load_pem_x509_csr(identity.csr().encode()).public_key()
    (world.folder / "node-1" / "node.pem").write_text(pem(foreign.issue(key, identity.node_id, NODE, 1)))

    async def story():
        async with world.service():
            assert await knock(world, identity.tls_context()) == "cut off"

    asyncio.run(story())


def test_a_health_managers_certificate_does_not_make_a_node(world):
    tls = trusting(world.authority.roots)
    world.authority.certify()
    tls.load_cert_chain(world.authority.server_file)

    async def story():
        async with world.service():
            assert await knock(world, tls) == "cut off"

    asyncio.run(story())


def test_a_removed_node_is_refused(world):
    identity = world.identity("node-1")
    with world.store.write() as connection:
        nodes.remove(connection, "node-1")

    async def story():
        async with world.service():
            assert await knock(world, identity.tls_context()) == 403

    asyncio.run(story())


def test_a_removed_node_loses_its_connection(world, until):
    identity = world.identity("node-1")

    async def story():
        async with world.service() as service, world.node(identity) as host:
            await until(lambda: host.rosters)
            with world.store.write() as connection:
                nodes.remove(connection, "node-1")
            await until(lambda: not service.sessions)

    asyncio.run(story())


def test_a_node_that_poses_as_a_health_manager_is_not_believed(world):
    impostor, victim = world.identity("node-1"), world.identity("node-2")

    async def story():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(world.folder / "node-1" / "node.pem", world.folder / "node-1" / "node.key")
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", world.port, ssl=context)
        async with server:
            assert await knock(world, victim.tls_context()) == "cut off"

    asyncio.run(story())
    assert impostor.exists


def test_a_certificate_is_renewed_before_it_ends(world, until):
    world.configure(certificate_days=7.0)
    identity = world.identity("node-1", days=3 / 86400)
    first_end = identity.expires_at

    async def story():
        async with world.service() as service, world.node(identity):
            await until(lambda: service.sessions)
            await until(lambda: identity.expires_at > first_end + timedelta(days=6), seconds=8)
        async with world.service() as service, world.node(identity):
            await until(lambda: service.sessions)
        expires = world.row(tables.nodes, identity.node_id).certificate_expires_at
        assert expires == identity.expires_at.replace(tzinfo=None)

    asyncio.run(story())


def test_an_ended_certificate_says_what_to_do(world):
    identity = world.identity("node-1", days=0)
    assert identity.expires_at < datetime.now(UTC)
    with pytest.raises(SetupError, match="run statera-agent join again"):
        identity.tls_context()


def test_this_host_is_enrolled_without_a_token_as_often_as_one_likes(world, until):
    folder = enrol_local(world.store, world.authority, world.state, "here")
    certificate = (folder / "node.pem").read_bytes()
    assert enrol_local(world.store, world.authority, world.state, "here") == folder
    assert (folder / "node.pem").read_bytes() == certificate

    async def story():
        async with world.service() as service, world.node(Identity(folder)):
            await until(lambda: service.sessions)

    asyncio.run(story())


@pytest.mark.parametrize("harm", [
    pytest.param(lambda folder, world: (folder / "node.pem").unlink(), id="certificate gone"),
    pytest.param(lambda folder, world: (folder / "node.pem").write_text("?"), id="certificate broken"),
    pytest.param(lambda folder, world: (folder / "node.key").unlink(), id="key gone"),
    pytest.param(lambda folder, world: nodes_gone(world), id="database lost"),
])
def test_this_host_is_enrolled_again_when_its_identity_is_spoilt(world, harm):
    folder = enrol_local(world.store, world.authority, world.state, "here")
    harm(folder, world)
    enrol_local(world.store, world.authority, world.state, "here")
    with world.store.read() as connection:
        assert nodes.find(connection, "here") == Identity(folder).node_id
    assert Identity(folder).tls_context()


def nodes_gone(world):
    with world.store.write() as connection:
        nodes.remove(connection, "here")

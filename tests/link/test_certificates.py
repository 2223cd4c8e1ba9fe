# SPDX-License-Identifier: Apache-2.0
"""A sealed certificate is opened for the node that needs it, and for nobody else."""

import asyncio

from certificates import Authority
from cryptography.fernet import Fernet
from sqlalchemy import insert

from statera.model import pem
from statera.store import tables
from statera.store.secrets import Sealer

SITE = Authority("root").certificate_for("www.example.com")


def terminate(world, tree, sealer):
    """The tree's listener gets a certificate."""
    with world.store.write() as connection:
        connection.execute(insert(tables.sealed_secrets).values(
            load_balancer_id=tree.lb, ref="site", sealed=sealer.seal(SITE.bundle.encode()),
            digest=pem.digest(SITE.bundle)))
    world.change(tables.listeners, tree.listener, protocol="TERMINATED_HTTPS", default_tls_container_ref="site")
    world.wish(tree)


def specs_of(world, until, sealer, opener):
    """What two nodes are told about two load balancers, of which one terminates TLS."""
    identities = [world.identity(f"node-{number}") for number in (1, 2)]

    async def story():
        async with world.service(sealer=opener), world.node(identities[0]) as one, world.node(identities[1]) as two:
            secure, plain = (world.balance(identity.node_id) for identity in identities)
            await asyncio.to_thread(terminate, world, secure, sealer)
            await until(lambda: world.lb(secure).done_version == 2 and world.lb(plain).done_version == 1)
            return one.specs[secure.amphorae[0]], [*one.specs.values(), *two.specs.values()]

    return asyncio.run(story())


def test_a_node_gets_what_its_own_amphorae_need(world, until):
    sealer = Sealer(Fernet.generate_key())
    spec, everything = specs_of(world, until, sealer, sealer)
    (file,) = spec.pem_files
    assert (file.pem, file.digest) == (SITE.bundle, pem.digest(SITE.bundle))
    assert spec.listeners[0].tls.certificates == (file.name,)
    assert sum(len(each.pem_files) for each in everything) == 1


def test_with_the_wrong_master_key_the_log_says_what_to_do_and_others_are_served(world, until, caplog):
    spec, _ = specs_of(world, until, Sealer(Fernet.generate_key()), Sealer(Fernet.generate_key()))
    assert spec.pem_files == ()
    assert "put the same [certificates] master_key_file on every host" in caplog.text
    assert SITE.key_pem not in caplog.text

# SPDX-License-Identifier: Apache-2.0
"""How certificates reach a HAProxy that runs."""

import pytest
from msgspec.structs import replace

from statera.agent.apply import changes, instead
from statera.agent.runtime import batches
from statera.errors import GiveUp
from statera.model.fleet import Role
from statera.render.haproxy import Machine
from statera.wire import Address, Interface, ListenerSpec, MemberSpec, PemFile, PoolSpec, Spec, TlsSpec

MACHINE = Machine(run="/run/x", chroot="/")
LEG = Interface(name="eth1", network_id="n", addresses=(Address(ip="10.0.0.5", prefix=24),))
ONE = MemberSpec(id="one", address="10.0.0.11", protocol_port=80)


def pem(name, content="a", kind="certificate"):
    return PemFile(name=name, kind=kind, digest=content, pem=f"{content}\n")


LISTENER = ListenerSpec(id="web", protocol="TERMINATED_HTTPS", protocol_port=443, default_pool_id="pool",
                        tls=TlsSpec(certificates=("d.pem",)))
POOL = PoolSpec(id="pool", protocol="HTTP", lb_algorithm="ROUND_ROBIN", members=(ONE,))
SPEC = Spec(amphora_id="a", load_balancer_id="lb", version=1, role=Role.STANDALONE, interfaces=(LEG,),
            vips=(Address(ip="10.0.0.9", prefix=24),), listeners=(LISTENER,), pools=(POOL,), pem_files=(pem("d.pem"),))
MORE = replace(SPEC, listeners=(replace(LISTENER, tls=TlsSpec(certificates=("d.pem", "s.pem"))),),
               pem_files=(pem("d.pem"), pem("s.pem")))
CHECKED = TlsSpec(certificates=("d.pem",), authority="ca.pem", client_authentication="OPTIONAL")
ASKING = replace(SPEC, listeners=(replace(LISTENER, tls=CHECKED),),
                 pem_files=(pem("d.pem"), pem("ca.pem", kind="authority")))
SECURE = replace(SPEC, pools=(replace(POOL, tls=TlsSpec(certificates=("p.pem",), authority="ca.pem")),),
                 pem_files=(pem("d.pem"), pem("p.pem"), pem("ca.pem", kind="authority")))


def with_file(spec, file):
    return replace(spec, pem_files=tuple(file if each.name == file.name else each for each in spec.pem_files))


def with_members(spec, *members):
    return replace(spec, pools=(replace(spec.pools[0], members=members),))


def plan(old, new):
    running = changes(None, old, MACHINE).running
    return changes(running, replace(new, version=2), MACHINE)


D, S, LIST = "/run/x/tls/d.pem", "/run/x/tls/s.pem", "/run/x/tls/web.list"


@pytest.mark.parametrize(("old", "new", "commands"), [
    pytest.param(SPEC, with_file(SPEC, pem("d.pem", "b")), (f"set ssl cert {D} <<\nb\n", f"commit ssl cert {D}"),
                 id="renewed"),
    pytest.param(SPEC, MORE, (f"new ssl cert {S}", f"set ssl cert {S} <<\na\n", f"commit ssl cert {S}",
                              f"add ssl crt-list {LIST} {S}"), id="a host more"),
    pytest.param(MORE, SPEC, (f"del ssl crt-list {LIST} {S}", f"del ssl cert {S}"), id="a host less"),
    pytest.param(SECURE, with_file(SECURE, pem("p.pem", "b")),
                 ("set ssl cert /run/x/tls/p.pem <<\nb\n", "commit ssl cert /run/x/tls/p.pem"), id="pool's own"),
    pytest.param(with_members(SECURE), with_file(with_members(SECURE), pem("p.pem", "b")), (),
                 id="pool without a member: HAProxy has not read its files"),
])
def test_certificates_change_while_it_runs(old, new, commands):
    assert plan(old, new).commands == commands


@pytest.mark.parametrize(("old", "new"), [
    pytest.param(ASKING, with_file(ASKING, pem("ca.pem", "b", "authority")), id="whom a listener trusts"),
    pytest.param(SECURE, with_file(SECURE, pem("ca.pem", "b", "authority")), id="whom a pool trusts"),
    pytest.param(SPEC, ASKING, id="client authentication"),
    pytest.param(SPEC, SECURE, id="a pool that begins to speak TLS"),
    pytest.param(SPEC, with_file(SPEC, pem("d.pem", "b" * 15_000)), id="more than fits into a command"),
    pytest.param(with_members(SECURE), SECURE, id="first member of a pool with files"),
])
def test_the_rest_is_reloaded(old, new):
    assert plan(old, new).how == "reload"


def test_a_listener_that_was_asleep_wakes_with_its_new_certificate():
    asleep = plan(SPEC, replace(SPEC, listeners=(), pools=(), pem_files=()))
    woken = changes(asleep.running, replace(with_file(SPEC, pem("d.pem", "b")), version=3), MACHINE)
    assert woken.how == "runtime"
    assert f"commit ssl cert {D}" in woken.commands


def test_a_server_is_added_with_its_tls():
    (add, *_) = plan(SECURE, with_members(SECURE, ONE, replace(ONE, id="two"))).commands
    assert add.endswith(" ssl ca-file ca.pem verify required crt p.pem sni ssl_fc_sni")


def test_keys_go_into_files_and_are_not_remembered():
    made = plan(SPEC, MORE)
    assert made.tls_files == {"d.pem": "a\n", "s.pem": "a\n", "web.list": "d.pem\ns.pem\n"}
    assert {file.pem for file in (*made.running.applied.pem_files, *made.running.loaded.pem_files)} == {""}
    assert instead(made).tls_files == made.tls_files
    assert instead(made).how == "reload"


@pytest.mark.parametrize("bad", [
    pytest.param(replace(SPEC, pem_files=()), id="default"),
    pytest.param(replace(MORE, pem_files=(pem("d.pem"),)), id="another host's"),
    pytest.param(replace(SECURE, pem_files=(pem("d.pem"), pem("p.pem"))), id="authority"),
])
def test_nothing_is_served_without_a_file_that_is_asked_for(bad):
    with pytest.raises(GiveUp, match="is missing"):
        plan(SPEC, bad)


def test_a_command_with_a_payload_goes_alone():
    assert list(batches(["a", "b", "c <<\nd\n", "e <<\nf\n", "g"])) == ["a; b", "c <<\nd\n", "e <<\nf\n", "g"]

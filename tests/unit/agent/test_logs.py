# SPDX-License-Identifier: Apache-2.0
"""Lines go where they should, whole, and what finds no place is counted."""

import contextlib
import socket
import time
from pathlib import Path

import pytest

from statera.agent.logs import Office, doors, told
from statera.agent.netfilter import Ending, Flow
from statera.agent.relay import Relay, Source, clean
from statera.agent.sinks import File, Syslog
from statera.config import AmphoraAgent
from statera.errors import SetupError
from statera.model.fleet import Role
from statera.model.logs import Target, operators_target, target_of
from statera.render.flows import flow_listeners
from statera.render.logs import Logs
from statera.wire import ListenerSpec, MemberSpec, PoolSpec, Spec


@pytest.mark.parametrize(("url", "target"), [
    ("tcp://10.0.0.5:514", Target("tcp", "10.0.0.5", 514)), ("udp://[fd00::5]:6514", Target("udp", "fd00::5", 6514))])
def test_a_tenants_target_is_read_and_written_alike(url, target):
    assert (target_of(url), str(target)) == (target, url)


@pytest.mark.parametrize("url", [
    "", "tcp://", "10.0.0.5:514", "tls://10.0.0.5:514", "tcp://logs.example.com:514", "tcp://10.0.0.5", "tcp://10.0.0.5:0",
    "tcp://10.0.0.5:99999", "tcp://10.0.0.500:1", "udp://[fd00::5:514", "tcp://127.0.0.1:22", "udp://224.0.0.1:1",
    "tcp://0.0.0.0:1", "tcp://[::1]:1", "unix:///dev/log", "tcp://10.0.0.5:514\n"])
def test_what_is_no_target_is_refused(url):
    with pytest.raises(ValueError, match=r"must be like|is no address|Octet|does not appear"):
        target_of(url)


def test_an_operator_may_name_a_socket_and_another_protocol():
    assert operators_target("/dev/log", "UDP") == Target("unix", "/dev/log")
    assert operators_target("[::1]:514", "UDP") == Target("udp", "::1", 514)
    assert operators_target("tcp://192.0.2.1:514", "UDP") == Target("tcp", "192.0.2.1", 514)


@pytest.mark.parametrize("text", ["logs:514", "192.0.2.1", "192.0.2.1:x", "tls://192.0.2.1:1"])
def test_a_target_that_is_none_stops_the_agent_with_the_options_name(text):
    with pytest.raises(SetupError, match=r"\[amphora_agent\] admin_log_targets"):
        Office(AmphoraAgent(admin_log_targets=[text]))


@pytest.mark.parametrize(("received", "line"), [
    (b"<134>1 fine\n", b"<134>1 fine\n"), (b"a\nb\r\tc\x7f\x00", b"a#0Ab#0D#09c#7F#00\n"),
    ("é".encode(), "é\n".encode())])
def test_a_line_is_one_line(received, line):
    assert clean(received) == line


def test_a_file_turns_over_and_the_oldest_goes(tmp_path):
    file = File(tmp_path / "logs" / "flow.log", most_bytes=10, files=3)
    for number in range(5):
        assert file.put([b"line %d....\n" % number]) == 0
    file.close()
    assert {path.name: path.read_text()[5] for path in (tmp_path / "logs").glob("*")} == {
        "flow.log": "4", "flow.log.1": "3", "flow.log.2": "2"}


def test_lines_that_a_full_disk_refuses_are_lost():
    file = File(Path("/dev/full"), most_bytes=10, files=1)
    assert file.put([b"one\n", b"two\n"]) == 2
    file.close()


@contextlib.contextmanager
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        yield server, Target("tcp", *server.getsockname())


def test_a_stream_goes_on_at_the_next_server_with_a_whole_line():
    with listening() as (one, first), listening() as (two, second):
        sink = Syslog([first, second], size=100, retry_seconds=1, retry_count=100)
        sink.put([b"<1>a\n"])
        deadline = time.monotonic() + 10
        while sink.waits and time.monotonic() < deadline:
            sink.work(time.monotonic())
        connection, _ = one.accept()
        assert connection.recv(100) == b"<1>a\n"
        connection.close()
        one.close()
        while time.monotonic() < deadline and not sink._at:
            sink.put([b"<1>b\n"])
            sink.work(time.monotonic())
        sink.put([b"<1>c\n"])
        while sink.waits and time.monotonic() < deadline:
            sink.work(time.monotonic())
        connection, _ = two.accept()
        with connection:
            assert set(connection.recv(100).split(b"\n")) <= {b"<1>b", b"<1>c", b""}
        sink.close()


def test_what_the_queue_cannot_hold_is_lost_and_nothing_waits():
    sink = Syslog([Target("tcp", "127.0.0.1", 1)], size=3, retry_seconds=60, retry_count=1)
    sink.work(0.0)
    assert sink.put([b"x\n"] * 5) == 2
    assert sink.put([b"x\n"]) == 1
    sink.work(0.0)
    assert sink.waits
    sink.close()


class Memory:
    name, waits = "memory", False

    def __init__(self, room=100):
        self.lines, self.room, self.is_closed = [], room, False

    def put(self, lines):
        self.lines += lines[:self.room]
        return len(lines[self.room:])

    def work(self, now):
        pass

    def close(self):
        self.is_closed = True


def test_the_relay_sorts_lines_counts_what_is_lost_and_closes_what_nobody_uses():
    relay, flow, admin = Relay(), Memory(room=0), Memory()
    relay.start()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    relay.carry("a", [Source("a", ours, [flow], others=[admin], head=b"<134>")])
    for line in (b"<134>flow\n", b"<137>down\n"):
        theirs.send(line)
    deadline = time.monotonic() + 10
    while not (admin.lines and relay.lost("a")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (admin.lines, relay.lost("a"), relay.lost("b")) == ([b"<137>down\n"], {"memory": 1}, {})
    relay.carry("a", ())
    assert (flow.is_closed, admin.is_closed, ours.fileno(), relay.lost("a")) == (True, True, -1, {})
    relay.stop()
    theirs.close()


LISTENER = ListenerSpec(id="l", protocol="UDP", protocol_port=53, default_pool_id="p")
SPEC = Spec(amphora_id="a", load_balancer_id="lb", version=1, role=Role.STANDALONE, interfaces=(), vips=(),
            listeners=(LISTENER,), pools=(PoolSpec(id="p", protocol="UDP", lb_algorithm="ROUND_ROBIN", members=(
                MemberSpec(id="m", address="10.0.0.10", protocol_port=53),)),), project_id="project")


def over(mark):
    flow = Flow(protocol=17, vip="10.0.0.9", port=53, member="10.0.0.10", member_port=53, mark=mark, original=b"",
                family=2)
    return Ending(flow=flow, client="10.0.0.77", client_port=4321, bytes_in=100, bytes_out=200,
                  began=1_700_000_000.25, ended=1_700_000_001.5)


@pytest.mark.parametrize(("form", "line"), [
    pytest.param(Logs(), b"<134>1 2023-11-14T22:13:21.500000+00:00 a kernel - - - project lb l 10.0.0.77 4321 "
                 b'14/Nov/2023:22:13:20.250 - - 200 100 - "-" p m 1250 ----\n', id="upstream's fields"),
    pytest.param(Logs(flow_format="%ci:%cp -> %fi:%fp %{+Q}b %HM", head="rfc3164"),
                 b'<134>Nov 14 22:13:21 a kernel: 10.0.0.77:4321 -> 10.0.0.9:53 "p" -\n', id="the operator's"),
    pytest.param(Logs(flow_format=None), b"", id="switched off"),
])
def test_a_flow_of_the_kernels_is_told_in_haproxys_form(form, line):
    ((number, _),) = flow_listeners(SPEC)
    assert told(over(number), spec=SPEC, form=form, doors=doors(SPEC)) == line


def test_a_flow_of_nobodys_is_not_told():
    assert told(over(3), spec=SPEC, form=Logs(), doors=doors(SPEC)) == b""
    assert told(None, spec=SPEC, form=Logs(), doors=doors(SPEC)) == b""

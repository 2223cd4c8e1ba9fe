# SPDX-License-Identifier: Apache-2.0
"""What passes through an amphora is told in lines that arrive, whole, where operator and tenant want them."""

import contextlib
import os
import re
import selectors
import shutil
import socket
import threading
from pathlib import Path

import pytest
from amphora.datagrams import client, who
from msgspec.structs import replace

from statera.agent import namespace
from statera.config import AmphoraAgent, Haproxy, Settings
from statera.wire import Report

HEAD = r"<134>1 [\d-]{10}T[\d:]{8}\.\d{6}\+00:00 (?P<amphora>[\w-]+) \w+ [\w-]+ - - "
FIELDS = (
    r"(?P<project>\S+) (?P<lb>\S+) (?P<listener>\S+) (?P<ip>\S+) (?P<port>\d+) (?P<at>\S+) "
    r'(?P<request>".*"|-) (?P<status>-?\d+|-) (?P<sent>\d+) (?P<received>\d+) (?P<verified>\S+) (?P<dn>"[^"]*"|-) '
    r"(?P<pool>\S+) (?P<member>\S+) (?P<milliseconds>\d+) (?P<end>\S{4})")
LINE = re.compile(HEAD + FIELDS)


class Server:
    """A log server on the host, for datagrams or streams; *reads* False: one that takes connections and no more."""

    def __init__(self, kind, ip="127.0.0.1", port=0, *, reads=True):
        self.lines = []
        self._listening = socket.socket(socket.AF_INET, kind)
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listening.bind((ip, port))
        self.port = self._listening.getsockname()[1]
        self._ending, self._reads = threading.Event(), reads
        if kind == socket.SOCK_STREAM:
            self._listening.listen()
        self._thread = threading.Thread(target=self._run, args=(kind,))
        self._thread.start()

    def _run(self, kind):
        with selectors.DefaultSelector() as ready, contextlib.ExitStack() as stack:
            ready.register(self._listening, selectors.EVENT_READ)
            kept = {}
            while not self._ending.is_set():
                for key, _ in ready.select(0.02):
                    if kind == socket.SOCK_DGRAM:
                        self.lines.append(key.fileobj.recv(65536).decode())
                    elif key.fileobj is self._listening:
                        one = stack.enter_context(self._listening.accept()[0])
                        if self._reads:
                            ready.register(one, selectors.EVENT_READ)
                    elif data := key.fileobj.recv(65536):
                        *whole, kept[key.fd] = (kept.get(key.fd, b"") + data).split(b"\n")
                        self.lines += [line.decode() for line in whole]
                    else:
                        ready.unregister(key.fileobj)
        self._listening.close()

    def close(self):
        self._ending.set()
        self._thread.join()


@pytest.fixture
def server():
    with contextlib.ExitStack() as stack:
        def start(*args, **options):
            started = Server(*args, **options)
            stack.callback(started.close)
            return started
        yield start


KEPT = AmphoraAgent(local_flow_log=True)


def amphora(lab, spec=None, **settings):
    """A node of these settings, which keeps all lines unless they say otherwise, with an amphora that serves."""
    run = lab.host(settings=Settings(**{"amphora_agent": KEPT} | settings))
    run.carry(lab.network)
    lab.start_members()
    spec = spec or lab.spec(project_id="a1b2c3")
    run.carry(lab.network, spec.amphora_id)
    assert run.put(spec).failure is None
    return run, spec


def lines(run, spec, name="flow.log"):
    path = run.home(spec).logs / name
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.carries("a line about each request")
def test_each_request_is_a_line_with_the_fields_that_upstream_has(lab, wait_until):
    run, spec = amphora(lab)
    lab.get("/some?q=1", source=f"{lab.net}.2")
    wait_until(lambda: lines(run, spec), seconds=10)
    (line,) = lines(run, spec)
    found = LINE.fullmatch(line).groupdict()
    (listener,), (pool,) = spec.listeners, spec.pools
    assert (found["amphora"], found["project"], found["lb"]) == (spec.amphora_id, "a1b2c3", spec.load_balancer_id)
    assert (found["listener"], found["pool"]) == (listener.id, f"{pool.id}:{listener.id}")
    assert (found["ip"], found["request"], found["status"]) == (f"{lab.net}.2", '"GET /some?q=1 HTTP/1.1"', "200")
    assert found["member"] in [member.id for member in pool.members]
    assert int(found["sent"]) > int(found["received"]) > 40
    assert found["end"] == "----"


@pytest.mark.carries("a line about each TCP connection")
def test_a_tcp_connection_is_a_line_without_a_request(lab, wait_until):
    spec = lab.spec()
    listener, pool = replace(spec.listeners[0], protocol="TCP"), replace(spec.pools[0], protocol="TCP")
    run, spec = amphora(lab, replace(spec, listeners=(listener,), pools=(pool,)))
    lab.get()
    wait_until(lambda: lines(run, spec), seconds=10)
    found = LINE.fullmatch(lines(run, spec)[0]).groupdict()
    assert (found["request"], found["status"], found["project"]) == ("-", "-", "-")


@pytest.mark.carries("a line about each UDP flow")
def test_a_udp_flow_is_a_line_when_it_is_over(lab, wait_until):
    spec = lab.spec()
    listener = replace(spec.listeners[0], protocol="UDP", protocol_port=53)
    pool = replace(spec.pools[0], protocol="UDP", members=(lab.member(10, protocol_port=90),))
    run, spec = amphora(lab, replace(spec, listeners=(listener,), pools=(pool,)))
    with namespace.inside(spec.amphora_id):
        for name in ("udp_timeout", "udp_timeout_stream"):
            Path(f"/proc/sys/net/netfilter/nf_conntrack_{name}").write_text("1")
    with client(lab, source=f"{lab.net}.2") as flow:
        port = flow.getsockname()[1]
        assert who(flow) == "10"
        assert who(flow) == "10"
    wait_until(lambda: lines(run, spec), seconds=20)
    found = LINE.fullmatch(lines(run, spec)[0]).groupdict()
    assert (found["listener"], found["ip"], int(found["port"])) == (listener.id, f"{lab.net}.2", port)
    assert (found["pool"], found["member"]) == (pool.id, pool.members[0].id)
    assert (found["request"], int(found["received"])) == ("-", 2 * 29)
    assert int(found["sent"]) > 2 * 28


@pytest.mark.carries("whatever clients send, a line is one line")
def test_bytes_that_a_client_sends_cannot_make_a_line_of_their_own(lab, wait_until):
    run, spec = amphora(lab)
    for request in (b"GET /a\r\n<134>1 forged\r\n\r\n", b'GET /"\x01\x7f\xff HTTP/1.1\r\nHost: x\r\n\r\n',
                    b"\x16\x03\x01\0\n\0"):
        with socket.create_connection((lab.vip, 80), timeout=5) as one:
            one.sendall(request)
            one.shutdown(socket.SHUT_WR)
            while one.recv(4096):
                pass
    wait_until(lambda: len(lines(run, spec)) >= 3, seconds=10)
    data = (run.home(spec).logs / "flow.log").read_bytes()
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", data)
    assert all(LINE.match(line) for line in data.decode(errors="replace").splitlines())


@pytest.mark.carries("log servers by UDP and TCP, the next when one fails")
@pytest.mark.parametrize(("kind", "protocol"), [
    pytest.param(socket.SOCK_DGRAM, "UDP", id="by UDP"), pytest.param(socket.SOCK_STREAM, "TCP", id="by TCP")])
def test_the_second_log_server_steps_in_and_the_first_returns(lab, server, wait_until, kind, protocol):
    second, first = server(kind), server(kind)
    port = first.port
    first.close()
    own = AmphoraAgent(tenant_log_targets=[f"127.0.0.1:{port}", f"127.0.0.1:{second.port}"], log_protocol=protocol,
                       log_retry_interval=1, log_retry_count=1, disable_local_log_storage=True)
    run, spec = amphora(lab, amphora_agent=own)
    wait_until(lambda: lab.get() and second.lines, seconds=10)
    assert LINE.fullmatch(second.lines[0].strip())
    again = server(kind, port=port)
    wait_until(lambda: lab.get() and again.lines, seconds=20)
    assert not run.home(spec).logs.exists()


@pytest.mark.carries("lines for the operator", "a socket of the host")
def test_what_haproxy_says_of_members_goes_to_the_operator(lab, server, wait_until, tmp_path):
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as local:
        local.bind(str(path))
        local.settimeout(10)
        run, spec = amphora(lab, amphora_agent=AmphoraAgent(admin_log_targets=[str(path)], log_header_format="rfc3164"))
        run.put(replace(spec, version=2, pools=(replace(spec.pools[0], members=(lab.member(10, enabled=False),)),)))
        said = local.recv(65536).decode()
    assert re.match(r"<1[34]\d>\w{3} [ \d]\d [\d:]{8} [\w-]+ haproxy\[\d+\]: ", said)
    wait_until(lambda: lines(run, spec, "admin.log"), seconds=10)


@pytest.mark.carries("a tenant's own log server")
def test_a_tenants_own_log_server_is_reached_from_within_the_amphora(lab, wait_until, tmp_path):
    run, spec = amphora(lab)
    received = tmp_path / "received"
    lab.start_log_server(10, 5140, received)
    run.put(replace(spec, version=2, log_target=f"tcp://{lab.net}.10:5140"))
    wait_until(lambda: lab.get() and received.read_text(), seconds=10)
    assert LINE.fullmatch(received.read_text().splitlines()[0])
    run.put(replace(spec, version=3))
    lab.get("/no-more")
    wait_until(lambda: "/no-more" in lines(run, spec)[-1], seconds=10)
    assert "/no-more" not in received.read_text()


def test_nobody_pays_for_lines_that_nobody_takes(lab, wait_until, tmp_path):
    run, spec = amphora(lab, amphora_agent=AmphoraAgent())
    assert "log-format" not in run.home(spec).haproxy_cfg.read_text()
    received = tmp_path / "received"
    lab.start_log_server(10, 5140, received)
    run.put(replace(spec, version=2, log_target=f"tcp://{lab.net}.10:5140"))
    wait_until(lambda: lab.get() and received.read_text(), seconds=10)
    assert lines(run, spec) == []


@pytest.mark.carries("traffic never waits for logs, and lost lines are an event")
def test_a_log_server_that_does_not_read_costs_lines_and_no_request(lab, server, wait_until):
    deaf = server(socket.SOCK_STREAM, reads=False)
    own = AmphoraAgent(tenant_log_targets=[f"tcp://127.0.0.1:{deaf.port}"], log_queue_size=50)
    run, _ = amphora(lab, amphora_agent=own, haproxy_amphora=Haproxy(user_log_format="%r " + 3000 * "x"))
    with lab.load() as came:
        run.wait(lambda up: isinstance(up, Report) and up.alarms and "tcp://127.0.0.1" in up.alarms[0].message,
                 seconds=30)
    assert set(came["outcome"]) == {"200"}


def test_lines_that_find_no_room_on_the_disk_are_counted(lab, wait_until):
    run, spec = amphora(lab)
    run.stop()
    logs = run.home(spec).logs
    shutil.rmtree(logs, ignore_errors=True)
    logs.write_text("no folder")
    again = lab.host(settings=Settings(amphora_agent=KEPT))
    again.carry(lab.network, spec.amphora_id)
    lab.get()
    alarm = again.wait(lambda up: isinstance(up, Report) and up.alarms).alarms[0]
    assert alarm.reason == "log_lines_lost"
    assert "file flow.log does not take them" in alarm.message


def test_an_agent_that_returns_hears_haproxy_again(lab, wait_until):
    run, spec = amphora(lab)
    lab.get()
    wait_until(lambda: lines(run, spec), seconds=10)
    processes = run.pids(spec)
    run.stop()
    lab.get()
    again = lab.host(settings=Settings(amphora_agent=KEPT))
    lab.get()
    wait_until(lambda: len(lines(again, spec)) == 2, seconds=10)
    assert again.pids(spec) == processes, "there was no need to reload"
    assert again.home(spec).logs.stat().st_mode & 0o77 == 0


@pytest.mark.carries("connection_logging off")
def test_connections_are_not_logged_where_the_operator_switched_that_off(lab):
    run, spec = amphora(lab, haproxy_amphora=Haproxy(connection_logging=False))
    lab.get()
    assert "log-format" not in run.home(spec).haproxy_cfg.read_text()
    assert lines(run, spec) == []


@pytest.mark.carries("user_log_format")
def test_another_configuration_of_the_agent_is_taken_up_by_a_running_haproxy(lab, wait_until):
    run, spec = amphora(lab, haproxy_amphora=Haproxy(connection_logging=False))
    pids = run.pids(spec)
    run.stop()
    again = lab.host(settings=Settings(haproxy_amphora=Haproxy(user_log_format="%ci"), amphora_agent=KEPT))
    wait_until(lambda: lab.get() and lines(again, spec), seconds=10)
    assert lines(again, spec)[-1].split(" ")[-1].startswith(lab.net)
    assert again.pids(spec)[0] == pids[0]
    assert os.path.exists(f"/proc/{pids[0]}")

# SPDX-License-Identifier: Apache-2.0
"""The story that `script/demo` tells: from nothing to balanced traffic, through the unmodified OpenStack client."""

import argparse
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path
from statistics import median

from scene import BIN, PORT, Cloud, Failed, Load, Server, fetch, footprint, links_of, run, wait_for

SUBNET = "198.18.7.0/24"  # 198.18.0.0/15 is set aside for tests, RFC 2544
POOL = "start=198.18.7.10,end=198.18.7.99"
ADDRESSES = {"a": "198.18.7.101", "b": "198.18.7.102", "c": "198.18.7.103"}
KINDS = {"a": "http.server", "b": "granian", "c": "granian"}
ROUNDS = 10
"""How often a member comes and goes under load."""


class Story:
    """The steps in their order; `told` prints each with the time since the start and what it took."""

    def __init__(self, state: Path, binds: Sequence[str]) -> None:
        self.state, self.binds, self.cloud = state, binds, Cloud(state)
        self.servers = {name: Server(name, address, state / "demo") for name, address in ADDRESSES.items()}
        self.began = time.monotonic()
        self.vip = self.lb = self.pool = self.subnet = self.bridge = ""
        self.made: list[str] = []

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:8.2f} s  {text}", flush=True)

    @contextmanager
    def told(self, text: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.say(f"{text}  [{time.monotonic() - began:.2f} s]")

    def openstack(self, *args: str) -> dict[str, str]:
        with self.told(f"$ openstack {' '.join(args)}"):
            return self.cloud.openstack(*args) or {}

    def statera(self, *args: str) -> str:
        return run(str(BIN / "statera"), *args, "--state", str(self.state))

    # the steps

    def start(self) -> None:
        with self.told(f"$ statera up --detach --state {self.state} {' '.join(self.binds)}"):
            self.statera("up", "--detach", *self.binds)

    def make_network(self) -> None:
        network = self.openstack("network", "create", "demo")
        subnet = self.openstack("subnet", "create", "demo", "--network", "demo", "--subnet-range", SUBNET,
                                "--allocation-pool", POOL)
        self.subnet, self.bridge = subnet["id"], network["provider:physical_network"]
        wait_for(f"bridge {self.bridge}", Path(f"/sys/class/net/{self.bridge}/bridge").exists)
        with self.told("web servers a (Python's http.server) and b (granian) answer in namespaces of their own"):
            for name, server in self.servers.items():
                server.plug(self.bridge, ip_network(SUBNET).prefixlen)
                server.start(KINDS[name])

    def make_load_balancer(self) -> None:
        self.lb = self.openstack("loadbalancer", "create", "--name", "demo", "--vip-subnet-id", "demo")["id"]
        self.openstack("loadbalancer", "listener", "create", "--name", "http", "--protocol", "HTTP",
                       "--protocol-port", "80", "demo")
        self.pool = self.openstack("loadbalancer", "pool", "create", "--name", "web", "--listener", "http",
                                   "--protocol", "HTTP", "--lb-algorithm", "ROUND_ROBIN")["id"]
        self.openstack("loadbalancer", "healthmonitor", "create", "--type", "HTTP", "--delay", "1", "--timeout", "1",
                       "--max-retries", "1", "--max-retries-down", "2", "web")
        self.add_by_client("a")
        self.add_by_client("b")

    def add_by_client(self, name: str) -> None:
        self.openstack("loadbalancer", "member", "create", "--name", name, "--address", ADDRESSES[name],
                       "--protocol-port", str(PORT), "--subnet-id", "demo", "web")

    def wait_until_online(self) -> None:
        with self.told("the load balancer is ACTIVE and ONLINE, both members are ONLINE"):
            wait_for("load balancer ACTIVE and ONLINE", lambda: self.status(f"loadbalancers/{self.lb}") == {
                "ACTIVE", "ONLINE"})
            wait_for("both members ONLINE", lambda: self.member("a") == self.member("b") == "ONLINE")
        self.vip = self.cloud.api(f"loadbalancers/{self.lb}")["loadbalancer"]["vip_address"]

    def show_turns(self) -> None:
        answers = [fetch(self.vip) for _ in range(6)]
        turns = all(one.status == 200 and one.body != two.body for one, two in pairwise(answers))
        self.expect("both members answer in turn", turns)
        self.say(f"six requests to http://{self.vip}/: {', '.join(answer.body for answer in answers)}")

    def lose_a_server(self) -> None:
        with Load(self.vip) as load:
            killed = time.monotonic()
            self.servers["a"].stop()
            seconds = wait_for("member a in ERROR", lambda: self.member("a") == "ERROR")
            since = time.monotonic()
            wait_for("more requests", lambda: len(load.samples) and load.samples[-1].at > since + 0.5)
        late = Counter(sample.body for sample in load.samples if sample.at > since)
        self.expect("only b answers once a is out", set(late) == {"b (granian)"})
        window = max((sample.at - killed for sample in load.failed), default=0.0)
        when = f", all sent within {1000 * window:.0f} ms of the kill" if load.failed else ""
        self.say(f"server a killed under load: in ERROR after {seconds:.2f} s, then only b answers; {len(load.failed)} "
                 f"of {len(load.samples)} requests failed{when}")

    def add_members_under_load(self) -> None:
        with Load(self.vip) as load:
            began = time.monotonic()
            self.add_by_client("c")
            wait_for("traffic on c", lambda: load.first_from("c", began), 10)
            self.remove_member("c", load)
            seconds = [self.add_and_time("c", load) for _ in range(ROUNDS)]
        self.expect("no request fails", not load.failed)
        self.say(f"member c came {ROUNDS + 1} times and went {ROUNDS + 1} times under load: traffic "
                 f"{1000 * median(seconds):.0f} ms after the api was asked (median of {ROUNDS}), "
                 f"{len(load.failed)} of {len(load.samples)} requests failed")

    def add_and_time(self, name: str, load: Load) -> float:
        """Seconds from asking the api to the first request that the new member answers."""
        asked = time.monotonic()
        self.cloud.api(f"pools/{self.pool}/members", "POST", {"member": {
            "name": name, "address": ADDRESSES[name], "protocol_port": PORT, "subnet_id": self.subnet}})
        wait_for(f"traffic on {name}", lambda: load.first_from(name, asked), 10)
        first = load.first_from(name, asked) or 0.0
        self.remove_member(name, load)
        return first - asked

    def remove_member(self, name: str, load: Load) -> None:
        self.cloud.api(f"pools/{self.pool}/members/{self.members()[name]['id']}", "DELETE")
        wait_for(f"member {name} is gone", lambda: name not in self.members(), 10)

    def clean_up(self) -> None:
        amphorae = [folder.name for folder in (self.state / "amphorae").iterdir()]
        spaces = [server.namespace for server in self.servers.values()]
        self.made = [str(self.state), *links_of(self.bridge), *amphorae, *spaces]
        self.openstack("loadbalancer", "delete", "demo", "--cascade")
        with self.told("the load balancer is gone"):
            wait_for("the load balancer is gone", lambda: self.cloud.api(f"loadbalancers/{self.lb}") is None)
        for server in self.servers.values():
            server.remove()
        self.openstack("network", "delete", "demo")
        with self.told(f"$ statera down --purge --state {self.state}"):
            self.statera("down", "--purge")

    def look_for_leftovers(self) -> None:
        left = footprint(self.made)
        self.expect(f"nothing is left behind ({', '.join(left)})", not left and not self.state.exists())
        self.say("nothing is left: no namespace, no link, no process, no file")

    def remove_all(self) -> None:
        """Whatever an earlier or a failed story left."""
        for server in self.servers.values():
            server.remove()
        subprocess.run((BIN / "statera", "down", "--purge", "--state", str(self.state)), capture_output=True)

    # looks at what is there

    def status(self, path: str) -> set[str]:
        [shown] = (self.cloud.api(path) or {"": {}}).values()
        return {shown.get("provisioning_status", ""), shown.get("operating_status", "")}

    def members(self) -> dict[str, dict[str, str]]:
        return {member["name"]: member for member in self.cloud.api(f"pools/{self.pool}/members")["members"]}

    def member(self, name: str) -> str:
        return self.members()[name]["operating_status"]

    def expect(self, what: str, true: bool) -> None:
        if not true:
            raise Failed(f"{what}: it is not so")


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave it running and say how to use it")
    parser.add_argument("--clean", action="store_true", help="only remove what --keep left")
    parser.add_argument("--state", type=Path, default=Path("/var/lib/statera-demo"), help="default %(default)s")
    parser.add_argument("--api-bind", default="127.0.0.1:9886", help="default %(default)s")
    parser.add_argument("--health-bind", default="127.0.0.1:5565", help="default %(default)s")
    options = parser.parse_args()
    story = Story(options.state, ["--api-bind", options.api_bind, "--health-bind", options.health_bind])
    story.remove_all()
    return 0 if options.clean else perform(story, keep=options.keep)


def perform(story: Story, *, keep: bool) -> int:
    """Tell the story and clean up, whatever happens; 1 if it went wrong."""
    try:
        tell(story)
        if keep:
            story.servers["a"].start(KINDS["a"])
            print(how_to_use(story))
            return 0
        story.clean_up()
        story.look_for_leftovers()
    except (Failed, KeyboardInterrupt) as error:
        print(f"{logs(story.state)}\nscript/demo: {error or 'interrupted'}", file=sys.stderr)
        story.remove_all()
        return 1
    return 0


def tell(story: Story) -> None:
    for step in (story.start, story.make_network, story.make_load_balancer, story.wait_until_online,
                 story.show_turns, story.lose_a_server, story.add_members_under_load):
        step()


def how_to_use(story: Story) -> str:
    return f"""
It goes on running. In another terminal:

  export OS_CLIENT_CONFIG_FILE={story.cloud.clouds} OS_CLOUD=statera PATH={BIN}:$PATH
  openstack loadbalancer list
  curl http://{story.vip}/

`script/demo --clean` ends it and leaves nothing."""


def logs(state: Path) -> str:
    """The end of each service's log."""
    parts = []
    for path in sorted(state.glob("log/*.log")):
        end = "\n".join(path.read_text(errors="replace").splitlines()[-15:])
        parts.append(f"── {path.name}\n{end}")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())

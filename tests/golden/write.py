# SPDX-License-Identifier: Apache-2.0
"""Write anew what each `spec.json` here renders to; the change is then reviewed as a diff."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from statera.render import flows, haproxy, isolation, keepalived, l7, nftables, tls
from statera.render.backends import proxied
from statera.render.haproxy import Machine
from statera.wire import LocalNetwork, Spec

HERE = Path(__file__).parent
MACHINE = Machine(run="/run/statera/amphora-1", chroot="/run/statera/empty", threads=2, most_connections=400_000)


def cases() -> list[str]:
    return sorted(path.parent.name for path in HERE.glob("*/spec.json"))


def machine(case: str) -> Machine:
    """The machine of all cases, with what the case has of its own in `machine.json`."""
    own = HERE / case / "machine.json"
    changes = msgspec.json.decode(own.read_bytes()) if own.exists() else {}
    return msgspec.convert({**msgspec.to_builtins(MACHINE), **changes}, Machine)


def rendered(case: str) -> Iterator[tuple[Path, str]]:
    """Each file of the case with what it should hold; the empty text where there should be none."""
    spec = msgspec.json.decode((HERE / case / "spec.json").read_bytes(), type=Spec)
    vrrp = keepalived.vrrp_of(spec)
    yield HERE / case / "haproxy.cfg", haproxy.render(proxied(spec), machine(case))
    yield HERE / case / "keepalived.conf", keepalived.render(spec, vrrp, fault_file="/run/fault") if vrrp else ""
    yield HERE / case / "filter.nft", nftables.render(spec)
    yield HERE / case / "flows.nft", flows.render(spec)
    yield from ((HERE / case / l7.FOLDER / name, text) for name, text in l7.files(spec).items())
    lists = {name: text for name, text in tls.files(spec).items() if name.endswith(".list")}
    yield from ((HERE / case / tls.FOLDER / name, text) for name, text in lists.items())


def isolated(case: str) -> Iterator[tuple[Path, str]]:
    """What a node with the networks of `networks.json` lets pass between them."""
    networks = msgspec.json.decode((HERE / case / "networks.json").read_bytes(), type=list[LocalNetwork])
    yield HERE / case / "isolation.nft", isolation.render(networks, "statera_0", serves=False)


def network_cases() -> list[str]:
    return sorted(path.parent.name for path in HERE.glob("*/networks.json"))


def main() -> None:
    for case in network_cases():
        for path, text in isolated(case):
            path.write_text(text)
    for case in cases():
        for path, text in rendered(case):
            if text:
                path.parent.mkdir(exist_ok=True)
                path.write_text(text)
            else:
                path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()

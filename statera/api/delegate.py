# SPDX-License-Identifier: Apache-2.0
"""What the API tells another provider's driver about a wish, before the wish is committed: the driver may refuse it.

A load balancer of our own needs nobody to be told: each function does nothing then.
"""

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Table

from statera.api.acts import Act, Service
from statera.drivers.protocols import Network, Vip, VipRequest
from statera.drivers.provider.objects import SHAPES, Lib, shown
from statera.errors import DriverError
from statera.model.providers import Whole, is_ours
from statera.store import delegated, tables

LOG = logging.getLogger(__name__)


@contextmanager
def vip(
    service: Service, provider: str, request: VipRequest, *, qos_policy_id: str | None, group_ids: Sequence[str]
) -> Iterator[Vip]:
    """The VIP's port, made by the provider's driver if it does that. It goes when what is done with it fails."""
    theirs = None
    try:
        if not is_ours(provider):
            theirs = service.drivers.get(provider).vip(request, qos_policy_id=qos_policy_id, group_ids=group_ids)
        yield theirs or service.network.allocate_vip(request)
    except BaseException:
        _give_back(service.network, request, theirs)
        raise


def _give_back(network: Network, request: VipRequest, theirs: Vip | None) -> None:
    """Also what was made and whose answer got lost. Raise nothing: what was refused and why is more important."""
    made = {theirs.port_id, *theirs.additional_port_ids} if theirs else set()
    try:
        network.release_vip(request.load_balancer_id)
        for port_id in made - {request.port_id}:
            network.discard_port(port_id)
    except DriverError as error:
        LOG.warning("ports of load balancer %s, which was refused, may be left: %s", request.load_balancer_id, error)


def created(act: Act, table: Table, id: str) -> None:
    """Tell of a new object."""
    if _is_delegated(act):
        _tell(act, f"{SHAPES[table.name].verb}_create", shown(table.name, id, _whole(act)))


@contextmanager
def changing(act: Act, table: Table, id: str, *, sent: Collection[str]) -> Iterator[None]:
    """Around a change: tell how the object was, and of how it is now what was *sent*."""
    before = _before(act, table, id)
    yield
    if before is not None:
        after = shown(table.name, id, _whole(act), only=sent)
        _tell(act, f"{SHAPES[table.name].verb}_update", before, after)


@contextmanager
def removing(act: Act, table: Table, id: str, *, cascade: bool) -> Iterator[None]:
    """Around a removal: tell how the object was."""
    before = _before(act, table, id)
    yield
    if before is not None:
        more = (cascade,) if table is tables.load_balancers else ()
        _tell(act, f"{SHAPES[table.name].verb}_delete", before, *more)


def replaced_members(act: Act, pool_id: str) -> None:
    """Tell that these are the pool's members from now on."""
    if _is_delegated(act):
        whole = _whole(act)
        wanted = [shown("members", row["id"], whole) for row in whole.below("members", pool_id=pool_id)]
        _tell(act, "member_batch_update", pool_id, wanted)


def failed_over(act: Act) -> None:
    if _is_delegated(act):
        _tell(act, "loadbalancer_failover", act.lb_id)


def _is_delegated(act: Act) -> bool:
    return not is_ours(act.load_balancer["provider"])


def _before(act: Act, table: Table, id: str) -> Lib | None:
    return shown(table.name, id, _whole(act)) if _is_delegated(act) else None


def _tell(act: Act, method: str, *arguments: Any) -> None:
    """The wish counts as asked for in the transaction that the driver's refusal would end."""
    act.service.drivers.get(act.load_balancer["provider"]).call(method, *arguments)
    delegated.asked(act.connection, act.lb_id)


def _whole(act: Act) -> Whole:
    """The load balancer as this transaction sees it."""
    return delegated.load_whole(act.connection, act.lb_id, sealer=act.service.sealer)

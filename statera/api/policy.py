# SPDX-License-Identifier: Apache-2.0
"""Who may do what: every rule of Octavia's policy as one table, judged by oslo.policy."""

import time
from collections.abc import Iterator

from msgspec import structs
from oslo_config import cfg
from oslo_policy import policy

from statera.api.identity import Identity
from statera.errors import Forbidden

BASE: dict[str, tuple[str, str | None]] = {
    "project-member": ("role:member and project_id:%(project_id)s", None),
    "project-reader": ("role:reader and project_id:%(project_id)s", None),
    "service": ("role:service", None),
    "context_is_admin": ("role:admin", "role:admin or role:load-balancer_admin"),
    "load-balancer:owner": ("project_id:%(project_id)s", None),
    "load-balancer:admin": ("is_admin:True or role:admin", "is_admin:True or role:admin or role:load-balancer_admin"),
    "load-balancer:global_observer": ("role:admin", "role:load-balancer_global_observer"),
    "load-balancer:member_and_owner": (
        "rule:project-member", "role:load-balancer_member and rule:load-balancer:owner"),
    "load-balancer:observer_and_owner": (
        "rule:project-reader", "role:load-balancer_observer and rule:load-balancer:owner"),
    "load-balancer:quota-admin": ("role:admin", "role:load-balancer_quota_admin"),
    "load-balancer:read": (
        "rule:load-balancer:observer_and_owner or rule:load-balancer:global_observer or "
        "rule:load-balancer:member_and_owner or rule:load-balancer:admin", None),
    "load-balancer:read-global": ("rule:load-balancer:global_observer or rule:load-balancer:admin", None),
    "load-balancer:write": ("rule:load-balancer:member_and_owner or rule:load-balancer:admin", None),
    "load-balancer:read-quota": (
        "rule:load-balancer:observer_and_owner or rule:load-balancer:global_observer or "
        "rule:load-balancer:member_and_owner or rule:load-balancer:quota-admin or rule:load-balancer:admin", None),
    "load-balancer:read-quota-global": (
        "rule:load-balancer:global_observer or rule:load-balancer:quota-admin or rule:load-balancer:admin", None),
    "load-balancer:write-quota": ("rule:load-balancer:quota-admin or rule:load-balancer:admin", None),
}
"""Rule: its check, and what [oslo_policy] enforce_new_defaults = false allows besides."""

R, G, W, A = "read", "read-global", "write", "admin"
RQ, GQ, WQ = "read-quota", "read-quota-global", "write-quota"
CRUD = {"get_all": R, "get_all-global": G, "post": W, "get_one": R, "put": W, "delete": W}
OPEN = {"get_all": R, "get_one": R, "post": A, "put": A, "delete": A}
CLOSED = dict.fromkeys(OPEN, A)
NESTED = {"get_all": R, "post": W, "get_one": R, "put": W, "delete": W}

API: dict[str, dict[str, str]] = {
    "loadbalancer": {
        **CRUD, "post:vip_sg_ids": W, "put:vip_sg_ids": W, "get_stats": R, "get_status": R, "put_failover": A,
        "get_log_target": R, "put_log_target": W, "delete_log_target": W},
    "listener": {**CRUD, "get_stats": R},
    "pool": CRUD,
    "healthmonitor": CRUD,
    "l7policy": CRUD,
    "member": {**NESTED, "get_all": "read or rule:service"},
    "l7rule": NESTED,
    "quota": {"get_all": RQ, "get_all-global": GQ, "get_one": RQ, "put": WQ, "delete": WQ, "get_defaults": RQ},
    "provider": {"get_all": R},
    "provider-flavor": {"get_all": A},
    "provider-availability-zone": {"get_all": A},
    "flavor": OPEN,
    "availability-zone": OPEN,
    "flavor-profile": CLOSED,
    "availability-zone-profile": CLOSED,
    "amphora": dict.fromkeys(("get_all", "get_one", "delete", "put_config", "put_failover", "get_stats"), A),
}
"""`os_load-balancer_api:<resource>:<action>` is `rule:load-balancer:<check>`."""


def rules() -> Iterator[policy.RuleDefault]:
    """Everything that policy.yaml may override."""
    for name, (check, legacy) in BASE.items():
        yield policy.RuleDefault(name, check, deprecated_rule=None if legacy is None else policy.DeprecatedRule(
            name, legacy, deprecated_reason="Use the reader, member and admin roles.", deprecated_since="Wallaby"
        ))
    for resource, actions in API.items():
        for action, check in actions.items():
            yield policy.RuleDefault(f"os_load-balancer_api:{resource}:{action}", f"rule:load-balancer:{check}")


def enforcer() -> policy.Enforcer:
    """What oslo.policy's own tools ask (`oslopolicy-policy-generator --namespace octavia`)."""
    judge = policy.Enforcer(cfg.CONF)
    judge.register_defaults(list(rules()))
    return judge


DECISION_SECONDS, MOST_DECISIONS = 3.0, 10_000


class Policy:
    """Judges requests; *everyone_is_admin* is auth_strategy noauth."""

    def __init__(self, conf: cfg.ConfigOpts, *, everyone_is_admin: bool) -> None:
        self._everyone_is_admin = everyone_is_admin
        self._enforcer = policy.Enforcer(conf)
        self._enforcer.suppress_default_change_warnings = True
        self._enforcer.suppress_deprecation_warnings = True
        self._enforcer.register_defaults(list(rules()))
        self._decisions: dict[tuple[Identity, str, str | None], bool] = {}
        self._decided_until = 0.0

    def allows(self, identity: Identity, action: str, *, project_id: str | None) -> bool:
        """Whether *identity* may do *action* (`listener:post`) to something of that project.

        A decision holds for a few seconds: judging takes longer than most requests, because the files are
        looked at each time.
        """
        now = time.monotonic()
        if now > self._decided_until or len(self._decisions) > MOST_DECISIONS:
            self._decisions, self._decided_until = {}, now + DECISION_SECONDS
        case, decisions = (structs.replace(identity, token=None, request_id=None), action, project_id), self._decisions
        if case not in decisions:
            decisions[case] = self._judge(identity, action, project_id)
        return decisions[case]

    def _judge(self, identity: Identity, action: str, project_id: str | None) -> bool:
        target = {"project_id": project_id}
        plain = identity.credentials(is_admin=False)
        admin = self._everyone_is_admin or self._enforcer.enforce("context_is_admin", target, plain)
        credentials = identity.credentials(is_admin=bool(admin))
        return bool(self._enforcer.enforce(f"os_load-balancer_api:{action}", target, credentials))

    def require(self, identity: Identity, action: str, *, project_id: str | None) -> None:
        """Raise `Forbidden` unless `allows`."""
        if not self.allows(identity, action, project_id=project_id):
            raise Forbidden

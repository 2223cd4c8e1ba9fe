# SPDX-License-Identifier: Apache-2.0
"""Who is asking, from the headers that the identity middleware sets."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from statera.drivers.protocols import Caller


class Identity(Struct, frozen=True, kw_only=True):
    user_id: str | None = None
    project_id: str | None = None
    roles: tuple[str, ...] = ()
    token: str | None = None
    system_scope: str | None = None
    domain_id: str | None = None
    is_admin_project: bool = True
    request_id: str | None = None

    @property
    def caller(self) -> Caller:
        return Caller(project_id=self.project_id, token=self.token)

    def credentials(self, *, is_admin: bool) -> dict[str, Any]:
        """What policy rules may ask about."""
        return {
            "user_id": self.user_id, "project_id": self.project_id, "roles": list(self.roles),
            "is_admin": is_admin, "is_admin_project": self.is_admin_project,
            "system_scope": self.system_scope, "domain_id": self.domain_id,
        }


def identify(environ: Mapping[str, Any]) -> Identity:
    """The identity that the WSGI environment carries."""

    def header(name: str) -> str | None:
        return environ.get(f"HTTP_{name}") or None

    return Identity(
        user_id=header("X_USER_ID"), project_id=header("X_PROJECT_ID"),
        roles=tuple(role.strip() for role in (header("X_ROLES") or "").split(",") if role.strip()),
        token=header("X_AUTH_TOKEN"), system_scope=header("OPENSTACK_SYSTEM_SCOPE"),
        domain_id=header("X_DOMAIN_ID"),
        is_admin_project=(header("X_IS_ADMIN_PROJECT") or "true").lower() == "true",
        request_id=environ.get("statera.request_id"),
    )

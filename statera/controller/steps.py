# SPDX-License-Identifier: Apache-2.0
"""The steps that a plan is made of; each prints as the words for the log."""

from msgspec import Struct

from statera.model.fleet import Role


class AddAmphora(Struct, frozen=True):
    """Write down an amphora for *role*; a later look finds it without ports and without a node."""

    role: Role

    def __str__(self) -> str:
        return f"add a {self.role} amphora"


class SucceedAmphora(Struct, frozen=True):
    """Write down an amphora that is to take over *role* from the amphora *id*.

    It draws on the budget of replacements as long as more than the share *reserve* is left; None draws nothing.
    """

    role: Role
    id: str
    why: str
    reserve: float | None = None

    def __str__(self) -> str:
        return f"add a {self.role} amphora to take over from {self.id} ({self.why})"


class ChangeRole(Struct, frozen=True):
    """Let the amphora go on in another role."""

    id: str
    role: Role

    def __str__(self) -> str:
        return f"make amphora {self.id} a {self.role} one"


class PlugAmphora(Struct, frozen=True):
    """Give the amphora a port in each of *subnet_ids* and in no other."""

    id: str
    subnet_ids: tuple[str, ...]

    def __str__(self) -> str:
        return f"plug amphora {self.id} into {len(self.subnet_ids)} subnets"


class GuardVip(Struct, frozen=True):
    """Let through to the VIP's ports what *mark* stands for, and nothing else."""

    mark: str

    def __str__(self) -> str:
        return f"guard the VIP ({self.mark})"


class PlaceAmphora(Struct, frozen=True):
    """Choose the node that carries the amphora."""

    id: str

    def __str__(self) -> str:
        return f"place amphora {self.id}"


class MarkApplied(Struct, frozen=True):
    """Say that an amphora without a node runs the newest version."""

    id: str

    def __str__(self) -> str:
        return f"pretend that amphora {self.id} runs"


class RetireAmphora(Struct, frozen=True):
    """Tell its node to let go of the amphora."""

    id: str
    why: str

    def __str__(self) -> str:
        return f"retire amphora {self.id} ({self.why})"


class ReleaseAmphora(Struct, frozen=True):
    """Give back what the amphora used outside, then forget it."""

    id: str

    def __str__(self) -> str:
        return f"release amphora {self.id}"


class FinishDelete(Struct, frozen=True):
    """Give back the VIP, then forget the load balancer."""

    def __str__(self) -> str:
        return "finish the delete"


class GiveUpWaiting(Struct, frozen=True):
    """Say that another provider's driver owes an answer for too long."""

    provider: str

    def __str__(self) -> str:
        return f"give up waiting for the driver of provider {self.provider}"


class AwaitProvider(Struct, frozen=True):
    """Nothing to do before another provider's driver says what became of the wish."""

    provider: str

    def __str__(self) -> str:
        return f"wait for the driver of provider {self.provider}"


class AwaitSuccessor(Struct, frozen=True):
    """Nothing to do before the amphora that takes over serves."""

    id: str

    def __str__(self) -> str:
        return f"wait until amphora {self.id} serves"


class AwaitGone(Struct, frozen=True):
    """Nothing to do before the node says that nothing is left of the amphora; nobody else has to wait for that."""

    id: str

    def __str__(self) -> str:
        return f"wait until amphora {self.id} has left its node"


class AwaitReturn(Struct, frozen=True):
    """Nothing to do before the lost node comes back and removes the amphora, or is removed itself."""

    id: str

    def __str__(self) -> str:
        return f"keep the addresses of amphora {self.id}, which its lost node may still run"


class HoldBack(Struct, frozen=True):
    """An amphora has to stay where it is, for the reason *why* it should not: no other node could carry it."""

    id: str
    why: str

    def __str__(self) -> str:
        return f"wait for a node that can take over from amphora {self.id} ({self.why})"


class AwaitBudget(Struct, frozen=True):
    """The amphora's turn has not come: the share *lacking* of the budget of replacements has to be won back first."""

    id: str
    why: str
    lacking: float

    def __str__(self) -> str:
        return f"wait until the budget of replacements lets amphora {self.id} be replaced ({self.why})"


Action = (AddAmphora | SucceedAmphora | ChangeRole | PlugAmphora | GuardVip | PlaceAmphora | MarkApplied | RetireAmphora
          | ReleaseAmphora | FinishDelete | GiveUpWaiting)
Wait = AwaitProvider | AwaitSuccessor | AwaitGone | AwaitReturn | HoldBack | AwaitBudget
Step = Action | Wait

# SPDX-License-Identifier: Apache-2.0
"""The steps that a plan is made of; each prints as the words for the log."""

from msgspec import Struct

from statera.model.fleet import Role


class AddAmphora(Struct, frozen=True):
    """Write down an amphora for *role*; a later look finds it without ports and without a node."""

    role: Role

    def __str__(self) -> str:
        return f"add a {self.role} amphora"


class PlugAmphora(Struct, frozen=True):
    """Give the amphora a port in each of *subnet_ids* and in no other."""

    id: str
    subnet_ids: tuple[str, ...]

    def __str__(self) -> str:
        return f"plug amphora {self.id} into {len(self.subnet_ids)} subnets"


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
class GuardVip(Struct, frozen=True):
    """Let through to the VIP's ports what *mark* stands for, and nothing else."""

    mark: str

    def __str__(self) -> str:
        return f"guard the VIP ({self.mark})"


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


class HoldBack(Struct, frozen=True):
    """An amphora on a lost node has to stay lost: no other node could carry its successor."""

    id: str

    def __str__(self) -> str:
        return f"wait for a node that can take over from amphora {self.id}, whose node is lost"


Action = (AddAmphora | SucceedAmphora | ChangeRole | PlugAmphora | GuardVip | PlaceAmphora | MarkApplied | RetireAmphora
          | ReleaseAmphora | FinishDelete)
Wait = AwaitSuccessor | AwaitGone | AwaitReturn | HoldBack | AwaitBudget
Step = Action | Wait

# SPDX-License-Identifier: Apache-2.0
"""Every error that Statera raises on purpose.

    StateraError
    ├── SetupError            the operator can mend it: one sentence that says what to do, exit status 1
    ├── ApiError              the caller can mend it; carries an HTTP status and a fault text
    │   ├── NotFound, Invalid, BadField, Forbidden, QuotaMet, ImmutableObject …
    │   └── Unavailable       nobody's fault: ask again
    ├── NotYet                what a step asked for is being made; nobody failed
    ├── LeaseLost             another worker holds the load balancer now; drop the pass
    └── DriverError           the cloud or a node failed; carries a reason code for the event
        ├── TryAgain          may pass by itself: the controller backs off
        └── GiveUp            will not pass soon: the load balancer shows ERROR and is retried slowly

An `ApiError` subclass is a row: its status and its fault text with one `{}` per argument. The texts are
those of the Octavia v2 API, because clients match on them.
"""

from http import HTTPStatus


class StateraError(Exception):
    """The root: `except StateraError` catches what we raise on purpose and nothing else."""


class SetupError(StateraError):
    """The command cannot start; the message says why and what to do next."""


class LeaseLost(StateraError):
    """The pass lost its lease; whatever it has not written yet must not be written."""


class NotYet(StateraError):
    """What a step asked for is being made: the pass goes on with its other steps and looks again later."""


class ApiError(StateraError):
    """A request that is refused; `str()` is the fault text shown to the caller.

    *passes*: the same request may succeed a moment later.
    """

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    text = "Something unknown went wrong"
    passes = False

    def __init__(self, *values: object) -> None:
        super().__init__(self.text.format(*values))


class NotFound(ApiError):
    """Arguments: what kind of object, its id."""

    status, text = HTTPStatus.NOT_FOUND, "{} {} not found."


class InvalidSubresource(ApiError):
    """A network object named in a body does not exist. Arguments: kind, id."""

    status, text = HTTPStatus.BAD_REQUEST, "{} {} not found."


class Forbidden(ApiError):
    """The policy refuses."""

    status, text = HTTPStatus.FORBIDDEN, "Policy does not allow this request to be performed."


class QuotaMet(ApiError):
    """Argument: the kind of object."""

    status, text = HTTPStatus.FORBIDDEN, "Quota has been met for resources: {}"


class Invalid(ApiError):
    """Argument: what is wrong."""

    status, text = HTTPStatus.BAD_REQUEST, "Validation failure: {}"


class BadRequest(ApiError):
    """Argument: the whole sentence."""

    status, text = HTTPStatus.BAD_REQUEST, "{}"


class BadField(ApiError):
    """Arguments: field, value, why. Of a long value only the beginning is shown."""

    status, text = HTTPStatus.BAD_REQUEST, "Invalid input for field/attribute {}. Value: '{}'. {}"
    longest = 1000

    def __init__(self, field: str, value: object, why: str) -> None:
        super().__init__(field, _beginning(str(value), self.longest), _beginning(why, self.longest))


def _beginning(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}…"


class InvalidOption(ApiError):
    """Arguments: value, option."""

    status, text = HTTPStatus.BAD_REQUEST, "{} is not a valid option for {}"


class DisabledOption(ApiError):
    """Arguments: option, value."""

    status, text = HTTPStatus.BAD_REQUEST, "The selected {} is not allowed in this deployment: {}"


class UnsupportedMediaType(ApiError):
    """Argument: the media type."""

    status, text = HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Unknown mimetype: {}"


class ImmutableObject(ApiError):
    """Arguments: kind, id."""

    status, text = HTTPStatus.CONFLICT, "{} {} is immutable and cannot be updated."
    passes = True


class PendingState(ApiError):
    """Arguments: provisioning status, load balancer id."""

    status, text = HTTPStatus.CONFLICT, "Invalid state {} of loadbalancer resource {}"
    passes = True


class Conflict(ApiError):
    """Argument: the whole sentence."""

    status, text = HTTPStatus.CONFLICT, "{}"


class AddressTaken(Conflict):
    """Arguments: address, subnet id."""

    text = "IP address {} is already in use in subnet {}."


class SubnetFull(Invalid):
    """Arguments: subnet id, its CIDR."""

    text = "Validation failure: Subnet {} ({}) has no free address left."


class InUse(Conflict):
    """Arguments: kind, id, what uses it."""

    text = "{} {} is in use by {}."


class ProviderUnsupported(ApiError):
    """Arguments: provider, what it does not support."""

    status, text = HTTPStatus.NOT_IMPLEMENTED, "Provider '{}' does not support a requested option: {}"


class ProviderCannot(ApiError):
    """Arguments: provider, what it does not do."""

    status, text = HTTPStatus.NOT_IMPLEMENTED, "Provider '{}' does not support a requested action: {}"


class ProviderMissing(ApiError):
    """Argument: the provider that is enabled but cannot be loaded."""

    status, text = HTTPStatus.NOT_IMPLEMENTED, "Provider '{}' was not found."


class ProviderFailed(ApiError):
    """Arguments: provider, what its driver says."""

    text = "Provider '{}' reports error: {}"


class VipConflict(Conflict):
    """Argument: what the provider's driver says."""

    text = "The VIP IP address is already in use: {}"


class Unavailable(ApiError):
    """Argument: the whole sentence, which asks to try again."""

    status, text = HTTPStatus.SERVICE_UNAVAILABLE, "{}"
    passes = True


class DriverError(StateraError):
    """A call to the cloud or a node failed: `reason` is the event's code, the message its text."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class TryAgain(DriverError):
    """May pass by itself."""


class GiveUp(DriverError):
    """Needs somebody: an operator, or another wish of the user."""

# SPDX-License-Identifier: Apache-2.0
"""Makes this host a node: swaps a one-time token for a certificate."""

import ssl

import aiohttp
import msgspec

from statera.agent.identity import Identity, matching, trusting
from statera.errors import SetupError
from statera.wire import Join, Joined, encode

TIMEOUT = aiohttp.ClientTimeout(total=30)


async def join(identity: Identity, *, endpoint: str, token: str, fingerprint: str, name: str) -> str:
    """Join at *endpoint* (host:port) as *name*; returns the node's id. Raise `SetupError`.

    The root is fetched first and must have *fingerprint* (SHA-256): the token goes to nobody else.
    """
    identity.prepare()
    try:
        async with aiohttp.ClientSession(timeout=TIMEOUT) as client:
            roots = matching(await _fetch_roots(client, endpoint), fingerprint)
            request = Join(token=token, name=name, csr=identity.csr())
            joined = await _post(client, endpoint, request, trusting(roots))
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise SetupError(f"cannot join at {endpoint}: {error or type(error).__name__}") from error
    identity.keep(joined)
    return joined.node_id


async def _fetch_roots(client: aiohttp.ClientSession, endpoint: str) -> str:
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE  # the fingerprint is what counts
    async with client.get(f"https://{endpoint}/v1/roots", ssl=unverified) as response:
        response.raise_for_status()
        return await response.text()


async def _post(client: aiohttp.ClientSession, endpoint: str, request: Join, tls: ssl.SSLContext) -> Joined:
    async with client.post(f"https://{endpoint}/v1/join", data=encode(request), ssl=tls) as response:
        if response.status != 200:
            raise SetupError(f"{endpoint} refuses: {await response.text()}")
        return msgspec.json.decode(await response.read(), type=Joined)

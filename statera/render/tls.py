# SPDX-License-Identifier: Apache-2.0
"""TLS in HAProxy: the words of a bind or a server, the lines of a frontend, the lists of certificates."""

import re
from collections.abc import Iterable, Iterator, Mapping

from statera.errors import GiveUp
from statera.render.text import quote, refused
from statera.wire import ListenerSpec, MonitorSpec, PoolSpec, Spec, TlsSpec

FOLDER = "tls"
"""Where the files lie, below the folder of the sockets."""

VERSIONS: Mapping[str, str] = {"TLSv1": "TLSv1.0", "TLSv1.1": "TLSv1.1", "TLSv1.2": "TLSv1.2", "TLSv1.3": "TLSv1.3"}
"""HAProxy's words, oldest first. SSLv3 is not among them: no OpenSSL that HAProxy is built with speaks it."""

VERIFY = {"NONE": "", "OPTIONAL": " verify optional", "MANDATORY": " verify required"}

SSL_HEADERS = {
    "X-SSL-Client-Verify": "%[ssl_c_verify]",
    "X-SSL-Client-Has-Cert": "%[ssl_c_used]",
    "X-SSL-Client-DN": "%{+Q}[ssl_c_s_dn]",
    "X-SSL-Client-CN": "%{+Q}[ssl_c_s_dn(cn)]",
    "X-SSL-Issuer": "%{+Q}[ssl_c_i_dn]",
    "X-SSL-Client-SHA1": "%{+Q}[ssl_c_sha1,hex]",
    "X-SSL-Client-Not-Before": "%{+Q}[ssl_c_notbefore]",
    "X-SSL-Client-Not-After": "%{+Q}[ssl_c_notafter]",
}
"""A name may hold anything that the authority signs, a line break too: HAProxy writes such characters as %0A."""


def bind(listener: ListenerSpec, run: str) -> str:
    """What follows the address of a bind. Raise `GiveUp` for a listener that would be less safe than is wished."""
    tls = listener.tls
    if tls is None:
        return ""
    if not tls.certificates:
        raise GiveUp("SPEC_REFUSED", f"listener {listener.id} has no certificate")
    if tls.client_authentication not in VERIFY:
        raise refused("client_authentication", tls.client_authentication)
    verify = VERIFY[tls.client_authentication]
    if verify and not tls.authority:
        raise GiveUp("SPEC_REFUSED", f"listener {listener.id} asks for client certificates but has no authority")
    checks = f"{authority(tls)}{verify}" if verify else ""
    return f" ssl crt-list {run}/{FOLDER}/{list_file(listener)}{checks}{shared(tls)}"


def server(pool: PoolSpec, listener: ListenerSpec, mode: str) -> str:
    """How a server is spoken to by TLS; nothing without."""
    tls = pool.tls
    if tls is None:
        return ""
    verify = f"{authority(tls)} verify required" if tls.authority else " verify none"
    shown = f" crt {file(tls.certificates[0])}" if tls.certificates else ""
    alpn = tls if mode == "http" else TlsSpec(tls_versions=tls.tls_versions, tls_ciphers=tls.tls_ciphers)
    return f" ssl{verify}{shown}{sni(tls, listener, mode)}{shared(alpn)}"


def check(tls: TlsSpec | None, monitor: MonitorSpec, *, by_http: bool) -> str:
    """How a server is checked by TLS.

    `check-ssl` is said also where HAProxy would come to it by itself, because a check with a port or an address of
    its own would not. An HTTP check has no host to name in HTTP/2, which servers take amiss.
    """
    verify = "" if tls else " verify none"
    host = f" check-sni {quote(monitor.domain_name)}" if monitor.domain_name and not (tls and tls.authority) else ""
    protocol = " check-alpn http/1.1" if by_http and tls and tls.alpn_protocols else ""
    return f" check-ssl{verify}{host}{protocol}"


def sni(tls: TlsSpec, listener: ListenerSpec, mode: str) -> str:
    """The host that the client named. HAProxy then demands the member's certificate to be for that host, so where
    the member is verified only a client's own TLS may name it.
    """
    if listener.tls:
        return " sni ssl_fc_sni"
    return " sni req.hdr(host),host_only" if mode == "http" and not tls.authority else ""


def authority(tls: TlsSpec) -> str:
    revocations = f" crl-file {file(tls.revocations)}" if tls.revocations else ""
    return f" ca-file {file(tls.authority or '')}{revocations}"


def shared(tls: TlsSpec) -> str:
    """What binds and servers spell alike."""
    return versions(tls.tls_versions) + ciphers(tls.tls_ciphers or "") + alpn(tls.alpn_protocols)


def versions(wanted: Iterable[str]) -> str:
    """HAProxy's own default where none are named."""
    wanted = list(wanted)
    if not wanted:
        return ""
    known = [version for version in VERSIONS if version in wanted]
    if not known:
        raise GiveUp("SPEC_REFUSED", f"none of the TLS versions {', '.join(wanted)} can be spoken")
    order = list(VERSIONS)
    between = order[order.index(known[0]):order.index(known[-1])]
    holes = "".join(f" no-{VERSIONS[each].lower().replace('.', '')}" for each in between if each not in known)
    return f" ssl-min-ver {VERSIONS[known[0]]} ssl-max-ver {VERSIONS[known[-1]]}{holes}"


def ciphers(text: str) -> str:
    """TLS 1.3's suites have a list of their own."""
    if not re.fullmatch(r"[A-Za-z0-9+!:@=_.-]*", text):
        raise refused("tls_ciphers", text)
    words = [word for word in text.split(":") if word]
    old, new = ([word for word in words if word.startswith("TLS_") is new] for new in (False, True))
    return (f" ciphers {':'.join(old)}" if old else "") + (f" ciphersuites {':'.join(new)}" if new else "")


def alpn(protocols: Iterable[str]) -> str:
    words = list(protocols)
    for word in words:
        if not re.fullmatch(r"[A-Za-z0-9./_-]+", word):
            raise refused("alpn_protocols", word)
    return f" alpn {','.join(words)}" if words else ""


def frontend_lines(listener: ListenerSpec) -> Iterator[str]:
    """What clients must not say themselves, and what they shall hear with every answer."""
    if listener.tls is None:
        return
    yield "http-request del-header X-SSL- -m beg"
    if listener.hsts_max_age is not None:
        words = [f"max-age={listener.hsts_max_age}"]
        words += ["includeSubDomains"] if listener.hsts_include_subdomains else []
        words += ["preload"] if listener.hsts_preload else []
        yield f'http-after-response set-header Strict-Transport-Security "{"; ".join(words)};"'


def file(name: str) -> str:
    """The name of a file in `FOLDER`; anything that would lead elsewhere raises `GiveUp`."""
    if not re.fullmatch(r"[0-9A-Za-z_-][0-9A-Za-z._-]*", name):
        raise refused("file", name)
    return name


def headers(listener: ListenerSpec) -> dict[str, str]:
    """The lines for headers that only a listener with TLS can insert."""
    return {} if listener.tls is None else {
        header: f"http-request set-header {header} {value}" for header, value in SSL_HEADERS.items()}


def list_file(listener: ListenerSpec) -> str:
    return file(f"{listener.id}.list")


def files(spec: Spec) -> dict[str, str]:
    """What the configuration finds in `FOLDER`, by the names of the files. Raise `GiveUp` if one is not there."""
    contents = {each.name: each.pem for each in spec.pem_files}
    for missing in [each for each in named(spec) if each not in contents]:
        raise GiveUp("SPEC_REFUSED", f"the content of {missing} is missing: name its secret once more")
    lists = {
        list_file(listener): "".join(f"{file(each)}\n" for each in listener.tls.certificates)
        for listener in spec.listeners if listener.tls
    }
    return contents | lists


def named(spec: Spec) -> Iterator[str]:
    """Every file that is asked for."""
    for each in filter(None, (*(one.tls for one in spec.listeners), *(one.tls for one in spec.pools))):
        yield from names(each)


def names(tls: TlsSpec) -> Iterator[str]:
    """The files that it asks for."""
    yield from tls.certificates
    yield from filter(None, (tls.authority, tls.revocations))

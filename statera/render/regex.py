# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a regular expression, asked of the library by which HAProxy judges requests: PCRE2.

A host without the library judges by Python's rules and by the few differences that are known (docs/reference/l7.md);
what slips through there is refused by HAProxy on the node, which goes on with what it has.
"""

import ctypes
import re
from functools import cache
from typing import Any

LIBRARY = "libpcre2-8.so.0"
NO_AUTO_CAPTURE = 0x2000
"""As HAProxy compiles patterns of acls (2.6, src/regex.c): groups have no numbers."""

UNREADABLE = {rf"\{character}" for character in "NuU123456789"}
"""Escapes of Python's `re`, by which the API judges first, that HAProxy does not take."""


def fault(regex: str) -> str:
    """What HAProxy has against it; empty when nothing is known to be wrong."""
    library = _library()
    return _known_fault(regex) if library is None else _asked(library, regex.encode())


def _known_fault(regex: str) -> str:
    found = UNREADABLE.intersection(re.findall(r"\\(?:[0-3][0-7]{2}|.)", regex))
    return f"HAProxy does not know {min(found)}" if found else ""


@cache
def _library() -> Any:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    library.pcre2_compile_8.restype = ctypes.c_void_p
    library.pcre2_compile_8.argtypes = [
        ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint32, ctypes.POINTER(ctypes.c_int),
        ctypes.POINTER(ctypes.c_size_t), ctypes.c_void_p]
    library.pcre2_code_free_8.argtypes = [ctypes.c_void_p]
    library.pcre2_get_error_message_8.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
    return library


def _asked(library: Any, pattern: bytes) -> str:
    code, offset, text = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(256)
    compiled = library.pcre2_compile_8(
        pattern, len(pattern), NO_AUTO_CAPTURE, ctypes.byref(code), ctypes.byref(offset), None)
    if compiled:
        library.pcre2_code_free_8(compiled)
        return ""
    library.pcre2_get_error_message_8(code, text, len(text))
    return f"{text.value.decode()} at position {offset.value}"

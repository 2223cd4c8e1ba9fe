# SPDX-License-Identifier: Apache-2.0
"""What every command does first: configuration, logging, and one clear sentence when it cannot start."""

import ctypes
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from oslo_config import cfg
from oslo_log import log

from statera import trace
from statera.config import Settings, load
from statera.errors import SetupError

Main = Callable[[Settings, cfg.ConfigOpts], None]

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def configure(
    prog: str, args: Sequence[str] | None = None, *, options: Sequence[cfg.Opt] = ()
) -> tuple[Settings, cfg.ConfigOpts]:
    """Parse `--config-file` and friends and the command's own *options*, set up logging. Raises `SetupError`."""
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    conf.register_cli_opts(options)
    settings = load(conf, sys.argv[1:] if args is None else args, prog=prog)
    log.setup(conf, prog)
    trace.install()
    return settings, conf


def run(prog: str, main: Main, args: Sequence[str] | None = None, *, options: Sequence[cfg.Opt] = ()) -> None:
    """Run *main* with the settings; a `SetupError` becomes one line on stderr and exit status 1."""
    try:
        main(*configure(prog, args, options=options))
    except SetupError as error:
        sys.exit(f"{prog}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def stop_signal() -> threading.Event:
    """An event that SIGTERM and SIGINT set from now on. Must be called in the main thread."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def die_with_parent() -> None:
    """Have the kernel end this process by SIGTERM when the one that forked it dies, however suddenly."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

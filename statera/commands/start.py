# SPDX-License-Identifier: Apache-2.0
"""What every command does first: configuration, logging, and one clear sentence when it cannot start."""

import sys
from collections.abc import Callable, Sequence

from oslo_config import cfg
from oslo_log import log

from statera.config import Settings, load
from statera.errors import SetupError

Main = Callable[[Settings, cfg.ConfigOpts], None]


def configure(prog: str, args: Sequence[str] | None = None) -> tuple[Settings, cfg.ConfigOpts]:
    """Parse `--config-file` and friends, set up logging. Raises `SetupError`."""
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    settings = load(conf, sys.argv[1:] if args is None else args, prog=prog)
    log.setup(conf, prog)
    return settings, conf


def run(prog: str, main: Main, args: Sequence[str] | None = None) -> None:
    """Run *main* with the settings; a `SetupError` becomes one line on stderr and exit status 1."""
    try:
        main(*configure(prog, args))
    except SetupError as error:
        sys.exit(f"{prog}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)

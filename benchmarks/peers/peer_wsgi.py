# SPDX-License-Identifier: Apache-2.0
"""The peer's own WSGI application, in the peer's own environment; the configuration is named by OCTAVIA_CONF."""

import os

from octavia.api import app

application = app.setup_app(argv=["octavia-api", "--config-file", os.environ["OCTAVIA_CONF"]])

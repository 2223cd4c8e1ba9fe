# SPDX-License-Identifier: Apache-2.0
"""Run by the Python that has Barbican: sets up a Barbican in a folder and serves it.

    HOME=FOLDER python3 barbican_server.py FOLDER PORT KEYSTONE
"""

import sys
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

from authtoken import AUTHTOKEN
from paste import deploy

CONFIGURATION = """
[DEFAULT]
host_href = http://127.0.0.1:{port}
sql_connection = sqlite:///{folder}/barbican.db
db_auto_create = true
[secretstore]
enabled_secretstore_plugins = store_crypto
[crypto]
enabled_crypto_plugins = simple_crypto
[queue]
enable = false
"""

PIPELINE = """
[composite:main]
use = egg:Paste#urlmap
/: versions
/v1: api
[app:versions]
paste.app_factory = barbican.api.app:create_version_app
[pipeline:api]
pipeline = token context microversion resources
[filter:token]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
[filter:context]
paste.filter_factory = barbican.api.middleware.context:ContextMiddleware.factory
[filter:microversion]
paste.filter_factory = barbican.api.middleware.microversion:MicroversionMiddleware.factory
[app:resources]
paste.app_factory = barbican.api.app:create_main_app
"""


class Threaded(ThreadingMixIn, WSGIServer):
    daemon_threads = True


def main(folder: Path, port: int, keystone: str) -> None:
    """Barbican looks for its file in the home folder."""
    file = folder / ".barbican" / "barbican.conf"
    file.parent.mkdir()
    file.write_text((CONFIGURATION + AUTHTOKEN).format(
        user="barbican", folder=folder, port=port, keystone=keystone))
    pipeline = folder / "barbican-api-paste.ini"
    pipeline.write_text(PIPELINE)
    make_server("127.0.0.1", port, deploy.loadapp(f"config:{pipeline}"), server_class=Threaded).serve_forever()


main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])

"""The web process of a benchmark, served as `embedded.web` does: `python -m gateway_project.bench.web PORT`."""

import socket
import sys

from gateway_project.embedded.web import serve

if __name__ == "__main__":
    serve(socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=1024), gated=False)

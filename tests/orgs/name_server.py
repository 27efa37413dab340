"""A real name server on this machine, for a handful of TXT records."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dns.message
import dns.rcode
import dns.rrset


class NameServer:
    """`records` by name; `failing`: it answers that it cannot."""

    def __init__(self) -> None:
        self.records: dict[str, list[str]] = {}
        self.failing = False
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))

    @property
    def setting(self) -> str:
        return f"127.0.0.1#{self.socket.getsockname()[1]}"

    def serve(self) -> None:
        """Until an empty datagram comes."""
        while True:
            wire, client = self.socket.recvfrom(4096)
            if not wire:
                return
            self.socket.sendto(self._answer(dns.message.from_wire(wire)).to_wire(), client)

    def _answer(self, asked: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(asked)
        name = asked.question[0].name
        texts = self.records.get(name.to_text(omit_final_dot=True))
        if self.failing or texts is None:
            answer.set_rcode(dns.rcode.SERVFAIL if self.failing else dns.rcode.NXDOMAIN)
        else:
            answer.answer = [dns.rrset.from_text(name, 60, "IN", "TXT", *(f'"{text}"' for text in texts))]
        return answer


@contextmanager
def running_name_server() -> Iterator[NameServer]:
    server = NameServer()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stopping:
            stopping.sendto(b"", server.socket.getsockname())
        thread.join()
        server.socket.close()

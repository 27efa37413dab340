"""Connections to providers over TLS: who is believed, and that all else is as without it."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proxy.errors import AttemptFailed
from proxy.providers import transport
from proxy.providers.base import Timeouts
from tests.proxy import loopback
from tests.proxy.conftest import Run
from tests.proxy.loopback import HELLO, OK, Client, failure, fetch, hello, serving, until


@pytest.fixture(params=loopback.LOOPS)
def run(request: pytest.FixtureRequest, only_new_garbage: None) -> Run:
    """On either loop."""
    return partial(loopback.run_on, request.param)


class Issuer:
    """A certificate authority of this module alone."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self._root = self._signed(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None))

    def _signed(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: Any, days: int = 1, own: bool = False
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name if own else self._name)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=9)).not_valid_after(now + timedelta(days=days))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(key if own else self._key, hashes.SHA256())

    def trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self._root.public_bytes(serialization.Encoding.PEM).decode())

    def server(self, *names: str, days: int = 1, own: bool = False) -> ssl.SSLContext:
        """`own`: signed by itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = [x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        certificate = self._signed(subject, key, x509.SubjectAlternativeName(alternatives), days=days, own=own)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ) + certificate.public_bytes(serialization.Encoding.PEM)
        path = self._folder / f"{certificate.serial_number}.pem"
        path.write_bytes(pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def trusting(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> Issuer:
    monkeypatch.setattr(transport, "tls_context", issuer.trusted)
    return issuer


def test_over_tls_it_is_the_same(run: Run, trusting: Issuer) -> None:
    """Kept, long bodies both ways, ends that are the connection's; the name is told before the handshake."""

    async def calls() -> tuple[list[int], list[str | None]]:
        told: list[str | None] = []
        context = trusting.server("127.0.0.1", "localhost")
        context.sni_callback = lambda _, name, __: told.append(name)

        async def echo(client: Client) -> None:
            for _ in range(2):
                _, body = await client.request()
                await client.say(OK + b"content-length: %d\r\n\r\n" % len(body), body)
            _, body = await client.request()
            await client.say(OK + b"\r\n", body)
            client.writer.close()

        async with serving(echo, tls=context) as server:
            url = f"https://localhost:{server.port}/"
            sizes = [len(await fetch(url, body=b"x" * size)) for size in (10, 3_000_000, 2_000_000)]
            assert await fetch(f"https://127.0.0.1:{server.port}/") == b"{}"
            return sizes, told

    sizes, told = run(calls())
    assert sizes == [10, 3_000_000, 2_000_000]
    assert told == ["localhost", None]  # an address is no name


@pytest.mark.parametrize("farewell", [True, False])
def test_one_that_the_provider_closed_meanwhile_is_not_used(run: Run, trusting: Issuer, farewell: bool) -> None:
    async def calls() -> int:
        async def once(client: Client) -> None:
            await client.request()
            await client.say(HELLO)
            if farewell:
                client.writer.close()
            else:
                client.hang_up()

        async with serving(once, tls=trusting.server("localhost")) as server:
            for _ in range(3):
                assert await fetch(f"https://localhost:{server.port}/") == b"hello"
                await until(lambda: len(transport.shared()) == 0)
            return server.connections

    assert run(calls()) == 3


@pytest.mark.parametrize(
    ("names", "options"),
    [(("other.example",), {}), (("localhost",), {"days": -1}), (("localhost",), {"own": True}), (("*.example",), {})],
    ids=["wrong-name", "expired", "self-signed", "other-wildcard"],
)
def test_a_certificate_that_proves_nothing_is_refused(
    run: Run, trusting: Issuer, names: tuple[str, ...], options: dict[str, Any]
) -> None:
    async def calls() -> AttemptFailed:
        async with serving(hello, tls=trusting.server(*names, **options)) as server:
            return await failure(f"https://localhost:{server.port}/", api_key="sk-secret-secret")

    failed = run(calls())
    assert (failed.kind, failed.message) == ("connect", "The provider's TLS certificate could not be verified.")


def test_nobody_is_trusted_but_who_everybody_trusts(run: Run, issuer: Issuer) -> None:
    async def calls() -> AttemptFailed:
        async with serving(hello, tls=issuer.server("localhost")) as server:
            return await failure(f"https://localhost:{server.port}/")

    assert "could not be verified" in run(calls()).message


@pytest.mark.parametrize(
    "speech", [b"HTTP/1.1 400 Bad\r\n\r\n", b"", b"\x15\x03\x01\x00\x02\x02\x28"], ids=["http", "hang-up", "alert"]
)
def test_what_speaks_no_tls_is_a_failure_to_connect(run: Run, trusting: Issuer, speech: bytes) -> None:
    async def calls() -> str:
        async def speak(client: Client) -> None:
            await client.reader.read(1)
            await client.say(speech)
            client.writer.close()

        async with serving(speak) as server:
            return (await failure(f"https://localhost:{server.port}/")).kind

    assert run(calls()) == "connect"


@pytest.mark.parametrize("after", ["nothing", "hello", "timeout"])
def test_a_handshake_that_is_given_up_leaves_nothing(run: Run, trusting: Issuer, after: str) -> None:
    async def calls() -> str:
        met = asyncio.Event()

        async def silence(client: Client) -> None:
            if after == "hello":
                await client.reader.read(10)
            met.set()
            await client.reader.read()

        async with serving(silence) as server:
            limits = Timeouts(connect=0.05) if after == "timeout" else Timeouts()
            calling = asyncio.create_task(fetch(f"https://127.0.0.1:{server.port}/", timeouts=limits))
            if after != "timeout":
                await met.wait()
                calling.cancel()
            await asyncio.wait([calling])
            return "cancelled" if calling.cancelled() else str(calling.exception())

    expected = "No connection to the provider within 0.05 seconds." if after == "timeout" else "cancelled"
    assert run(calls()) == expected

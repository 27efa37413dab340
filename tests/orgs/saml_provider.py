"""A real SAML identity provider: pysaml2's. It signs with the program xmlsec1, which a Debian package of that name brings."""

from __future__ import annotations

import base64
import datetime
import os
import shutil
import tempfile
import warnings
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

with warnings.catch_warnings():
    # Of cryptography's, about what pyOpenSSL takes from it.
    warnings.simplefilter("ignore")
    from saml2 import BINDING_HTTP_REDIRECT
    from saml2.config import IdPConfig
    from saml2.metadata import entity_descriptor
    from saml2.saml import NAMEID_FORMAT_PERSISTENT, NameID
    from saml2.server import Server

SIGNS = shutil.which("xmlsec1") is not None
SSO_URL = "https://127.0.0.1/idp/sso"
DIGESTS = {
    "signing_algorithm": "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
    "digest_algorithm": "http://www.w3.org/2001/04/xmlenc#sha256",
}


class KeyPair:
    """A private key and a certificate for it, as files."""

    def __init__(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="saml-provider-", dir=os.environ["GATEHOUSE_HOME"]))  # goes with the run
        self.key, self.certificate = folder / "key.pem", folder / "certificate.pem"
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.key.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        self.certificate.write_bytes(_certificate(key).public_bytes(serialization.Encoding.PEM))


def _certificate(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idp.example")])
    now = datetime.datetime.now(datetime.UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    built = built.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=30))
    return built.sign(key, hashes.SHA256())


@cache
def key_pair(which: str) -> KeyPair:
    """Made once in a process: keys take a while."""
    return KeyPair()


@dataclass
class SamlProvider:
    """`ours` is our metadata, as XML. What a test wants to be wrong it says when it asks for a response."""

    entity_id: str = "https://idp.example/metadata"
    ours: str = ""
    keys: str = "of the provider"
    person: dict[str, Any] = field(default_factory=dict)

    def metadata(self) -> str:
        return str(entity_descriptor(self._config()))

    def asked(self, url: str) -> tuple[str, str]:
        """The id of a request that a browser brings, and where its answer is wanted."""
        assert url.startswith(SSO_URL)
        query = parse_qs(urlsplit(url).query)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            message = self._server().parse_authn_request(query["SAMLRequest"][0], BINDING_HTTP_REDIRECT).message
        return message.id, message.assertion_consumer_service_url

    def response(
        self,
        in_response_to: str | None,
        acs: str,
        *,
        audience: str,
        minutes: int = 15,
        sign_assertion: bool = True,
        sign_response: bool = False,
        name_id_format: str = NAMEID_FORMAT_PERSISTENT,
    ) -> str:
        """As a form carries it: in base64."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = self._server(minutes).create_authn_response(
                {name: [value] for name, value in self.person.items() if name != "uid"},
                in_response_to,
                acs,
                audience,
                name_id=NameID(format=name_id_format, text=self.person["uid"]),
                authn={"class_ref": "urn:oasis:names:tc:SAML:2.0:ac:classes:Password", "authn_auth": self.entity_id},
                sign_assertion=sign_assertion,
                sign_response=sign_response,
                sign_alg=DIGESTS["signing_algorithm"],
                digest_alg=DIGESTS["digest_algorithm"],
            )
        return base64.b64encode(str(made).encode()).decode()

    def _server(self, minutes: int = 15) -> Any:
        return _server(self.entity_id, self.ours, self.keys, minutes)

    def _config(self) -> Any:
        return _config(self.entity_id, self.ours, self.keys, 15)


@cache
def _server(*of: Any) -> Any:
    """Made once for all that one provider is asked: it reads its settings, our metadata and its keys."""
    return Server(config=_config(*of))


def _config(entity_id: str, ours: str, keys: str, minutes: int) -> Any:
    pair = key_pair(keys)
    policy = {"lifetime": {"minutes": minutes}, "attribute_restrictions": None, "fail_on_missing_requested": False}
    endpoints = {"single_sign_on_service": [(SSO_URL, BINDING_HTTP_REDIRECT)]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return IdPConfig().load(
            {
                "entityid": entity_id,
                "service": {"idp": {"endpoints": endpoints, "policy": {"default": policy}}},
                "key_file": str(pair.key),
                "cert_file": str(pair.certificate),
                "xmlsec_binary": shutil.which("xmlsec1"),
                "metadata": {"inline": [ours]} if ours else {},
            }
        )

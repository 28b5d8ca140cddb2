"""TLS of the gRPC port: a certificate and its key from files, TLS 1.2 or newer, HTTP/2 by ALPN."""

from __future__ import annotations

import ssl
from asyncio import sslproto
from pathlib import Path

from raven.errors import StartupError
from raven.grpc.limits import READ_BYTES

__all__ = ["load_tls"]

# asyncio keeps a buffer of so many bytes for each connection with TLS: 256 KiB. No frame of ours needs it.
sslproto.SSLProtocol.max_size = READ_BYTES


def load_tls(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """What a server with this certificate offers.

    Args:
        cert_file: PEM: the certificate, and behind it those between it and the authority.
        key_file: PEM: its private key, without a passphrase.

    Raises:
        StartupError: naming key and file.
    """
    _check_readable(cert_file, "cert_file")
    _check_readable(key_file, "key_file")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["h2"])
    try:
        context.load_cert_chain(cert_file, key_file, password=_no_passphrase)
    except (ssl.SSLError, ValueError) as error:
        raise StartupError(_explain(error, cert_file, key_file)) from error
    return context


def _check_readable(path: Path, key: str) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise StartupError(f"[server.tls] {key}: {str(path)!r} cannot be read: {error.strerror}") from error


def _no_passphrase() -> str:
    raise ValueError("passphrase")


def _explain(error: Exception, cert_file: Path, key_file: Path) -> str:
    cert, key = f"[server.tls] cert_file: {str(cert_file)!r}", f"[server.tls] key_file: {str(key_file)!r}"
    if not isinstance(error, ssl.SSLError):
        return f"{key} has a passphrase: a server has nobody to ask for it; store the key without one"
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{key} is not the key of the certificate in cert_file {str(cert_file)!r}"
    if not _has_pem(cert_file, b"CERTIFICATE-----"):
        return f"{cert} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)"
    if not _has_pem(key_file, b"PRIVATE KEY-----"):
        return f"{key} holds no private key in PEM (-----BEGIN PRIVATE KEY-----)"
    return f"{cert} and key_file {str(key_file)!r} cannot be used: {error.reason or error}"


def _has_pem(path: Path, mark: bytes) -> bool:
    return mark in path.read_bytes()

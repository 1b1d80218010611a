"""A signing key as apt's archives have one, made and used with no gpg installed (RFC 9580, version 4 packets)."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils

_RSA, _SHA256 = 1, 8
_BINARY, _TEXT, _CERTIFICATION = 0x00, 0x01, 0x13


class SigningKey:
    """An RSA key with one user ID, its self-signature, and no expiry."""

    def __init__(self, user_id: str = "Test Archive <archive@example.org>", *, created: int = 1_600_000_000) -> None:
        self._private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        numbers = self._private.public_key().public_numbers()
        self._body = b"\x04" + created.to_bytes(4, "big") + bytes([_RSA]) + _mpi(numbers.n) + _mpi(numbers.e)
        self._created = created
        self._user = user_id.encode()
        self.fingerprint = hashlib.sha1(b"\x99" + len(self._body).to_bytes(2, "big") + self._body).digest()

    @property
    def public(self) -> bytes:
        """Return the binary key, as in a .gpg file."""
        subject = b"\x99" + len(self._body).to_bytes(2, "big") + self._body
        subject += b"\xb4" + len(self._user).to_bytes(4, "big") + self._user
        flags = _subpacket(27, b"\x03")  # may certify and sign
        self_signature = self._signature(_CERTIFICATION, subject, extra=flags)
        return _packet(6, self._body) + _packet(13, self._user) + self_signature

    @property
    def armoured(self) -> bytes:
        """Return the key as in an .asc file."""
        return _armour("PUBLIC KEY BLOCK", self.public).encode()

    def clear_sign(self, text: str) -> str:
        """Return an InRelease file."""
        lines = [line.rstrip(" \t\r") for line in text.removesuffix("\n").split("\n")]
        signature = self._signature(_TEXT, "\r\n".join(lines).encode())
        escaped = "\n".join(f"- {line}" if line.startswith("-") else line for line in lines)
        head = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n"
        return f"{head}{escaped}\n{_armour('SIGNATURE', signature)}"

    def detach_sign(self, content: bytes) -> bytes:
        """Return a Release.gpg file."""
        return _armour("SIGNATURE", self._signature(_BINARY, content)).encode()

    def _signature(self, kind: int, subject: bytes, *, extra: bytes = b"") -> bytes:
        hashed = _subpacket(33, b"\x04" + self.fingerprint) + _subpacket(2, self._created.to_bytes(4, "big")) + extra
        head = bytes([4, kind, _RSA, _SHA256]) + len(hashed).to_bytes(2, "big") + hashed
        digest = hashlib.sha256(subject + head + b"\x04\xff" + len(head).to_bytes(4, "big")).digest()
        value = self._private.sign(digest, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))
        unhashed = _subpacket(16, self.fingerprint[-8:])
        tail = len(unhashed).to_bytes(2, "big") + unhashed + digest[:2] + _mpi(int.from_bytes(value, "big"))
        return _packet(2, head + tail)


@lru_cache(maxsize=4)
def signing_key(user_id: str) -> SigningKey:
    """Return one key per user ID: making one takes a moment."""
    return SigningKey(user_id)


def _mpi(number: int) -> bytes:
    return number.bit_length().to_bytes(2, "big") + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _packet(tag: int, body: bytes) -> bytes:
    return bytes([0x80 | tag << 2 | 1]) + len(body).to_bytes(2, "big") + body


def _subpacket(kind: int, body: bytes) -> bytes:
    return bytes([len(body) + 1, kind]) + body


def _armour(title: str, content: bytes) -> str:
    crc = 0xB704CE
    for byte in content:
        crc ^= byte << 16
        for _ in range(8):
            crc = (crc << 1) ^ (0x1864CFB if crc & 0x800000 else 0)
    lines = [content[start : start + 48] for start in range(0, len(content), 48)]
    body = "\n".join(base64.b64encode(line).decode() for line in lines)
    check = base64.b64encode((crc & 0xFFFFFF).to_bytes(3, "big")).decode()
    return f"-----BEGIN PGP {title}-----\n\n{body}\n={check}\n-----END PGP {title}-----\n"

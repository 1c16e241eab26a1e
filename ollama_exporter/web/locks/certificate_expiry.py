# SPDX-License-Identifier: Apache-2.0
"""Reads when a certificate expires. The standard library does so for a peer's certificate only."""

import ssl
from datetime import UTC, datetime
from typing import Final

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0  # [0], absent in certificates of version 1
_UTC_TIME: Final = 0x17  # YYMMDDHHMMSSZ; below 50 it is the 21st century (RFC 5280, 4.1.2.5.1)
_GENERALIZED_TIME: Final = 0x18  # YYYYMMDDHHMMSSZ
_LONG: Final = 0x80
_PIVOT: Final = 50
_HEADER: Final = "-----BEGIN CERTIFICATE-----"
_FOOTER: Final = "-----END CERTIFICATE-----"


def not_after(pem: bytes) -> float | None:
    """Return the end of the first certificate's validity in Unix seconds; None: not readable."""
    text = pem.decode("ascii", "replace")
    begin = text.find(_HEADER)
    end = text.find(_FOOTER, begin)
    try:
        # Without a header or a footer it raises ValueError.
        der = ssl.PEM_cert_to_DER_cert(text[begin : end + len(_FOOTER)])
        return _validity_end(der)
    except (ValueError, IndexError):
        return None


def _validity_end(der: bytes) -> float:
    """Walk Certificate, TBSCertificate, Validity (RFC 5280, 4.1). Raises ValueError, IndexError."""
    inside, _ = _enter(der, 0, _SEQUENCE)
    at, _ = _enter(der, inside, _SEQUENCE)
    if der[at] == _VERSION:
        at = _skip(der, at)
    for _ in range(3):  # serial number, signature algorithm, issuer
        at = _skip(der, at)
    begin, _ = _enter(der, at, _SEQUENCE)
    tag_at = _skip(der, begin)  # past notBefore
    start, stop = _value(der, tag_at)
    return _seconds(der[tag_at], der[start:stop].decode("ascii"))


def _seconds(tag: int, written: str) -> float:
    if tag == _UTC_TIME:
        century = "20" if int(written[:2]) < _PIVOT else "19"
        written = century + written
    elif tag != _GENERALIZED_TIME:
        raise ValueError(tag)
    return datetime.strptime(written, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _enter(der: bytes, at: int, tag: int) -> tuple[int, int]:
    if der[at] != tag:
        raise ValueError(at)
    return _value(der, at)


def _skip(der: bytes, at: int) -> int:
    return _value(der, at)[1]


def _value(der: bytes, at: int) -> tuple[int, int]:
    """Return begin and end of an element's value."""
    length, begin = der[at + 1], at + 2
    if length >= _LONG:
        size = length - _LONG
        length, begin = int.from_bytes(der[begin : begin + size]), begin + size
    if begin + length > len(der):
        raise ValueError(at)
    return begin, begin + length

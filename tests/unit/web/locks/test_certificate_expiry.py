# SPDX-License-Identifier: Apache-2.0
"""When a certificate expires."""

import ssl
from datetime import UTC, datetime

import pytest
import trustme
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from ollama_exporter.web.locks.certificate_expiry import not_after

AUTHORITY = trustme.CA()


@pytest.mark.parametrize("year", [2027, 2049, 2050, 2099])  # UTCTime ends with 2049
def test_it_is_what_the_certificate_says(year: int) -> None:
    ends = datetime(year, 2, 3, 4, 5, 6, tzinfo=UTC)
    pem = AUTHORITY.issue_cert("localhost", not_after=ends).cert_chain_pems[0].bytes()
    assert not_after(b"junk before\n" + pem) == ends.timestamp()
    certificate = x509.load_pem_x509_certificate(pem)
    assert not_after(pem) == certificate.not_valid_after_utc.timestamp()


@given(cut=st.integers(0, 700), noise=st.binary(max_size=8))
def test_a_damaged_certificate_has_another_end_or_none(cut: int, noise: bytes) -> None:
    der = ssl.PEM_cert_to_DER_cert(AUTHORITY.cert_pem.bytes().decode())
    damaged = der[:cut] + noise + der[cut + len(noise) :]
    found = not_after(ssl.DER_cert_to_PEM_cert(damaged).encode())
    assert found is None or found > 0


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"])
def test_an_empty_one(pem: bytes) -> None:
    assert not_after(pem) is None


def tlv(tag: int, content: bytes) -> bytes:
    return bytes((tag, len(content))) + content


def certificate(*, tag: int, end: bytes, version: bytes = b"") -> bytes:
    """Return as much of a certificate as is read of it."""
    validity = tlv(0x30, tlv(0x17, b"200101000000Z") + tlv(tag, end))
    inside = version + tlv(2, b"1") + tlv(0x30, b"") + tlv(0x30, b"") + validity
    return ssl.DER_cert_to_PEM_cert(tlv(0x30, tlv(0x30, inside))).encode()


@pytest.mark.parametrize(
    ("tag", "end", "year"),
    [
        (0x17, b"490203040506Z", 2049),
        (0x17, b"500203040506Z", 1950),
        (0x18, b"20500203040506Z", 2050),
        (0x16, b"20500203040506Z", None),  # a text
        (0x17, b"490203040506+0100", None),
    ],
)
@pytest.mark.parametrize("version", [b"", tlv(0xA0, tlv(2, b"\2"))], ids=["1", "3"])
def test_both_forms_of_time_and_both_forms_of_certificates(
    version: bytes, tag: int, end: bytes, year: int | None
) -> None:
    found = not_after(certificate(tag=tag, end=end, version=version))
    wanted = None if year is None else datetime(year, 2, 3, 4, 5, 6, tzinfo=UTC).timestamp()
    assert found == wanted

# SPDX-License-Identifier: Apache-2.0
"""Which addresses a free probe may reach: decided without a resolver and without a socket."""

import ipaddress

import pytest

from ollama_exporter.errors import ConfigError, ProbeRefusedError
from ollama_exporter.fleet.allow_list import (
    allow_list,
    check_addresses,
    parse_probe_url,
    probe_entries,
)


def reached(url: str, *addresses: str, allow: str) -> list[str]:
    parsed = parse_probe_url(url)
    entries = allow_list(probe_entries("probe.allow", allow))
    found = [ipaddress.ip_address(text) for text in addresses]
    if parsed.address is not None:
        found = [parsed.address]
    return [str(each) for each in check_addresses(parsed, found, entries)]


@pytest.mark.parametrize(
    ("url", "addresses", "allow"),
    [
        ("http://gpu-1:11434", ["10.0.0.1"], "gpu-1:11434"),
        ("http://GPU-1:11434/", ["10.0.0.1"], "gpu-1"),
        ("https://a.gpu.example", ["10.0.0.1", "fd12::1"], "*.gpu.example:443"),
        ("http://x:11434", ["10.1.2.3"], "10.0.0.0/8"),
        ("http://10.1.2.3:11434", [], "10.0.0.0/8:11434"),
        ("http://10.1.2.3:8080", [], "10.0.0.0/8:*"),
        ("http://[fd12::1]:11434", [], "fd00::/8"),
        ("http://[fd12::1]:1", [], "[fd00::]/8:1"),
        ("http://[FD12:0::1]:11434", [], "fd12::1"),
        ("http://127.0.0.1:11434", [], "127.0.0.1:11434"),
        ("http://localhost:11434", ["127.0.0.1", "::1"], "localhost"),
        ("http://[::1]:11434", [], "[::1]:11434"),
        ("http://[::ffff:10.0.0.1]:11434", [], "10.0.0.0/8"),
    ],
)
def test_what_the_list_names_is_reached(url: str, addresses: list[str], allow: str) -> None:
    assert reached(url, *addresses, allow=allow)


@pytest.mark.parametrize(
    "url",
    [
        "http://user@gpu-1:11434", "http://user:pw@gpu-1:11434", "http://gpu-1:11434@evil:11434",
        "http://gpu-1:11434/api", "http://gpu-1:11434?x=1", "http://gpu-1:11434#x",
        "http://gpu-1:11434\\@evil", "http://gpu-1:11434 ", " http://gpu-1:11434",
        "http://gpu-1:11434\r\nX: y", "http://gpu-1:11434\n", "http://gpu-1.:11434", "http://gpu-1..x:11434",
        "http://127.0.0.1.:11434", "ftp://gpu-1:11434", "file:///etc/passwd", "http://gpu-1:0",
        "http://gpu-1:99999", "http://gpu-1:", "http://:11434", "http://", "http:gpu-1", "http:///gpu-1",
        "http://gpu-1:11434:11434", "http://%67pu-1:11434", "http://gpu-1%00:11434", "http://gpü-1:11434",
        "http://ⓖpu-1:11434", "http://gpu。1:11434", "http://-gpu:1", "http://" + "a" * 300, "http://[fe80::1%25eth0]:11434",
        "http://2130706433:11434", "http://0x7f000001:11434", "http://0177.0.0.1:11434",
        "http://127.1:11434", "http://127.0.1:11434", "http://0x7f.0.0.1:11434", "http://127.0.0.0x1:11434",
        "http://127.00.0.1:11434", "http://1.2.3.4.5:11434", "http://256.0.0.1:11434", "http://[::1:11434",
        "http://[127.0.0.1]:11434", "http://[::ffff:127.0.0.1]]:1", "http://[v1.x]:1",
    ],
)  # fmt: skip
def test_only_scheme_host_and_port_in_one_spelling_are_parsed(url: str) -> None:
    with pytest.raises(ProbeRefusedError):
        reached(url, "10.0.0.1", allow="gpu-1:* *.x:* 0.0.0.0/0:* ::/0")


NEVER = (
    "169.254.169.254", "169.254.0.1", "fe80::1", "::ffff:169.254.169.254", "fd00:ec2::254",
    "100.100.100.200", "192.0.0.192", "168.63.129.16", ".".join("0000"), "0.1.2.3", "::",
    "224.0.0.1",
    "255.255.255.255", "240.0.0.1", "ff02::1", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "2001::1",
    "::a9fe:a9fe", "fd20:ce::254",
)  # fmt: skip


@pytest.mark.parametrize("address", NEVER)
def test_no_list_allows_link_local_metadata_and_translated_addresses(address: str) -> None:
    everything = "0.0.0.0/0:* [::]/0:* gpu-1:* *.example:*"
    host = f"[{address}]" if ":" in address else address
    for url in (f"http://{host}:80", "http://gpu-1:80", "http://a.example:80"):
        with pytest.raises(ProbeRefusedError, match="never probed"):
            reached(url, address, allow=everything)
    with pytest.raises(ProbeRefusedError, match="never probed"):  # one bad address is enough
        reached("http://gpu-1:80", "10.0.0.1", address, allow=everything)


@pytest.mark.parametrize(
    ("url", "addresses", "allow"),
    [
        ("http://gpu-2:11434", ["10.0.0.1"], "gpu-1"),
        ("http://gpu-1:80", ["10.0.0.1"], "gpu-1"),
        ("http://gpu.example:11434", ["10.0.0.1"], "*.gpu.example"),
        ("http://evilgpu.example:11434", ["10.0.0.1"], "*.gpu.example"),
        ("http://gpu-1:11434", ["127.0.0.1"], "gpu-1"),  # a name that is pointed at this machine
        ("http://x:11434", ["10.0.0.1", "11.0.0.1"], "10.0.0.0/8"),
        ("http://x:11434", [], "10.0.0.0/8"),
        ("http://[::ffff:11.0.0.1]:11434", [], "10.0.0.0/8"),
        ("http://10.0.0.1:11434", [], "[fd00::]/8:*"),
    ],
)
def test_what_the_list_does_not_name_is_refused(url: str, addresses: list[str], allow: str) -> None:
    with pytest.raises(ProbeRefusedError):
        reached(url, *addresses, allow=allow)


@pytest.mark.parametrize(
    "text",
    ["gpu-1:x", "gpu-1:0", "gpu-1:65536", "10.0.0.1/8", "10.0.0.0/33", "*.10.0.0.1", "*", "*.",
     "gpu-1.", "http://gpu-1", "0177.0.0.1", "a b:é", "[::1", "user@gpu-1"],
)  # fmt: skip
def test_an_entry_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"probe\.allow"):
        probe_entries("probe.allow", [text])

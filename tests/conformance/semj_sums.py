"""Checksums and digests of SEMJ journals (SPEC.md 9, 10)."""
import hashlib
import zlib


def kernel_crc(*parts):
    value = 0xFFFFFFFF
    for part in parts:
        value = zlib.crc32(part, value)
    return value ^ 0xFFFFFFFF


def digest(domain, data):
    return hashlib.sha256(bytes((domain,)) + data).digest()


def leaf(record):
    return digest(0, record)


def merkle_root(leaves):
    """RFC 9162, 2.1.1. Level by level: an odd node at the right moves up as it is, which gives the same tree."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    while len(leaves) > 1:
        pairs = [digest(1, leaves[i] + leaves[i + 1]) for i in range(0, len(leaves) - 1, 2)]
        leaves = pairs + leaves[len(leaves) & ~1:]
    return leaves[0]


assert kernel_crc(b"123456789") == 0x2DFD2D88 and kernel_crc(b"") == 0
assert merkle_root([leaf(bytes.fromhex(x)) for x in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")]).hex() == (
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328")

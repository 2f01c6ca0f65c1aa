"""A few inputs of each target that fuzzers start from."""

from __future__ import annotations

import gzip
from itertools import product

_PLAIN = b">a first\nACGTNACGT\n>b|2/1\nGGCC\n>c\nTTT\n"
_TEXTS = (
    _PLAIN,
    b">a\nACG\nTNA\nCGT\n\n>b|2/1\nGG\nCC\n>c\nTTT",
    b"\n \r\n>a x\r\nACGTN\r\nACGT\r\n>b\tx\r\n\tGG CC\r\n>c \r\nuUt\r\n\r\n",
    b">a >b\nAcgRYKMSWBDHV\n>b@\nAC\n",
    b"@a x\nACGT\n+\nII@I\n@b\nAC\n+b\n@I\n@c\nT\n+\n>\n\n\n\n\n",
    b"@a\r\nacgu\r\n+\r\nIIII\r\n@b\r\nAC\r\n+\r\n+@\r\n",
    b"@a\nAC\n+\nII\n@b\nACG\n+\nII\n@c\nA",
    b"@a\nAC\nGT\n+\nIIII\n",
    b">a\nAC\n>a x\nGT\n>b\nAC\n>b\nA\n",
    b">p\nMKVXBZJOU-.\n>q\nmk\n",
    b">a\rACGT\r>b\rGG\r",
    b">a\n1 AC\x00GT*\n>\nAC\n> b\nAC\n>b\n",
    b">caf\xc3\xa9 x\nAC\xe9\n",
    b"\xef\xbb\xbf>a\nACGT\n",
    b"; hello\n>a\nACGT\n",
)
_GZIP = gzip.compress(_PLAIN, mtime=0)
_NAMED = _GZIP[:3] + b"\x08" + _GZIP[4:10] + b"a.fa\0" + _GZIP[10:]
_LAST_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003") + bytes(9)
_BLOCKED = _GZIP[:3] + b"\x04" + _GZIP[4:10] + b"\6\0BC\2\0\x1b\0" + _GZIP[10:]
_ARCHIVES = (
    _NAMED,
    _BLOCKED + _LAST_BLOCK,
    _BLOCKED + gzip.compress(b"", mtime=0),
    _GZIP + bytes(7),
    b"\x28\xb5\x2f\xfd",
)
_PACKINGS = (0, 1, 2, 3, 5, 9, 13, 7, 11, 15)
_FASTA = b"ATGGCCAAATTTGGG\nTTATTAGGCRYTAACCN\nacguacgtacgu\nATG\nA\nCC\n"
_SEQUENCES = b"MKV\nAC\nAC\n|ACGTACGTACGTA\nACGTACGTACGTC\nACGTACGTACGTA|*-.\n|\n|AC\nMKV\nMKVL"

SEEDS: dict[str, list[bytes]] = {
    "parser": [
        *(bytes([size, 0, 0, 0]) + text for text, size in product(_TEXTS, (0, 7, 200))),
        *(bytes([9, packing, 23, 6]) + _PLAIN for packing in _PACKINGS),
        *(bytes([9, 0, 0, 1]) + text for text in _TEXTS),
        *(bytes([9, 0, 0, 0]) + archive for archive in _ARCHIVES),
    ],
    "translator": [
        bytes([length, size, flags]) + _FASTA * repeat
        for length, size, flags, repeat in product((0, 4, 30), (3, 90), (0, 3, 255), (1, 3))
    ],
    "unique": [
        bytes([part, rows, room]) + _SEQUENCES * repeat
        for part, rows, room, repeat in product((0, 9, 255), (0, 2, 135), (0, 99), (1, 3))
    ],
}

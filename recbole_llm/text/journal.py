"""Encoded batches on disk, so that a run killed at any point loses one batch at most.

The file holds the content key, then one record per batch: number of rows, their width, the CRC of the bytes,
the rows as float32. A torn or damaged record, and all after it, is cut off when the journal is opened.
"""

import os
import struct
import zlib
from pathlib import Path

import numpy as np

_RECORD = struct.Struct("<III")  # rows, width, crc32


class Journal:
    """Append-only file of float32 rows for one content key; its order is the order of the texts.

    Parameters
    ----------
    path : path
        Opened where it is, begun anew where it is absent or belongs to another key.
    key : str
        64 hexadecimal digits.
    """

    def __init__(self, path: Path, key: str):
        self.path = path
        self.batches: list[np.ndarray] = []
        self._file = open(path, "r+b" if path.exists() else "w+b")
        if self._file.read(len(key)) == key.encode():
            end = self._read_batches(len(key))
        else:
            self._file.seek(0)
            self._file.write(key.encode())
            end = len(key)
        self._file.truncate(end)
        self._file.seek(end)

    def _read_batches(self, end):
        """Read whole records; give the position after the last good one."""
        size = os.fstat(self._file.fileno()).st_size
        while len(header := self._file.read(_RECORD.size)) == _RECORD.size:
            rows, width, checksum = _RECORD.unpack(header)
            if not 0 < rows * width * 4 <= size - self._file.tell():
                break
            body = self._file.read(rows * width * 4)
            if zlib.crc32(body) != checksum:
                break
            self.batches.append(np.frombuffer(body, dtype="<f4").reshape(rows, width))
            end = self._file.tell()
        return end

    def append(self, vectors: np.ndarray):
        """Add one batch, (n, D) float32, and wait until it is on disk."""
        body = np.ascontiguousarray(vectors, dtype="<f4").tobytes()
        self._file.write(_RECORD.pack(*vectors.shape, zlib.crc32(body)) + body)
        self._file.flush()
        os.fsync(self._file.fileno())
        self.batches.append(vectors)

    def __len__(self):
        """Rows held."""
        return sum(len(batch) for batch in self.batches)

    def __enter__(self):
        """The open journal."""
        return self

    def __exit__(self, *_):
        """Close the file and leave it where it is."""
        self._file.close()

"""A file system in memory (FUSE) that writes down what is done to it, and when what was synced.

`python -m tests.faults.recorder MOUNTPOINT LOG`: a process of its own, since a page fault on a mapped file
must not wait for the interpreter that waits for it. The extended attribute `MARK` that is set is a `Mark`;
`FAIL` has the next sync of its file fail.
"""

from __future__ import annotations

import errno
import itertools
import os
import pickle
import stat
import sys
import time
from pathlib import Path
from typing import Any

from tests.faults.forgetful import ROOT, Disk, Entry, FailedSync, Folder, Mark, Operation, Resize, Sync, Write

MARK, FAIL = "user.mark", "user.fail"
_BLOCK = 4096
_BLOCKS = 1 << 20


class Recorder:
    """The operations of FUSE. What a file holds is told by its handle, which is its inode."""

    use_ns = True
    flag_nullpath_ok = True
    flag_nopath = True

    def __init__(self) -> None:
        self.log: list[Operation] = []
        self._disk = Disk()
        self._inodes = itertools.count(ROOT + 1)
        self._changed: dict[int, int] = {}
        self._failing: set[int] = set()

    def _note(self, operation: Operation) -> int:
        """Its place in the log."""
        self._disk.apply(operation)
        self.log.append(operation)
        if not isinstance(operation, Sync | FailedSync | Mark):
            self._changed[operation.inode] = time.time_ns()
        return len(self.log) - 1

    def _place(self, path: str) -> tuple[int, str]:
        """The folder of a path, and its name there."""
        *parents, name = path.strip("/").split("/")
        folder = ROOT
        for each in parents:
            folder = self._disk.folders[folder].get(each, 0)
            if folder not in self._disk.folders:
                raise OSError(errno.ENOENT, path)
        return folder, name

    def _inode(self, path: str) -> int:
        if path == "/":
            return ROOT
        folder, name = self._place(path)
        if name not in self._disk.folders[folder]:
            raise OSError(errno.ENOENT, path)
        return self._disk.folders[folder][name]

    def _new(self, path: str, *, is_folder: bool) -> int:
        inode = next(self._inodes)
        if is_folder:
            self._note(Folder(inode))
        else:
            self._note(Resize(inode, 0))
        self._note(Entry(*self._place(path), inode))
        return inode

    def getattr(self, path: str | None, fh: int | None = None) -> dict[str, Any]:
        inode = self._inode(path) if path else fh
        assert inode is not None
        changed = self._changed.get(inode, 0)
        times = {"st_mtime": changed, "st_ctime": changed, "st_atime": changed}
        own = {"st_ino": inode, "st_uid": os.getuid(), "st_gid": os.getgid()}
        if inode in self._disk.folders:
            return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2, **own, **times}
        size = len(self._disk.files[inode])
        return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": size, **own, **times}

    def readdir(self, _: str | None, fh: int) -> list[str]:
        return [".", "..", *self._disk.folders[fh]]

    def opendir(self, path: str) -> int:
        return self._inode(path)

    def releasedir(self, _: str | None, __: int) -> int:
        return 0

    def fsyncdir(self, _: str | None, __: int, fh: int) -> int:
        self._note(Sync(fh))
        return 0

    def mkdir(self, path: str, _: int) -> int:
        self._new(path, is_folder=True)
        return 0

    def rmdir(self, path: str) -> int:
        if self._disk.folders[self._inode(path)]:
            raise OSError(errno.ENOTEMPTY, path)
        return self.unlink(path)

    def create(self, path: str, _: int) -> int:
        return self._new(path, is_folder=False)

    def open(self, path: str, flags: int) -> int:
        inode = self._inode(path)
        if flags & os.O_TRUNC:
            self._note(Resize(inode, 0))
        return inode

    def release(self, _: str | None, __: int) -> int:
        return 0

    def read(self, _: str | None, size: int, offset: int, fh: int) -> bytes:
        return bytes(self._disk.files[fh][offset : offset + size])

    def write(self, _: str | None, data: bytes, offset: int, fh: int) -> int:
        self._note(Write(fh, offset, data))
        return len(data)

    def truncate(self, path: str | None, length: int, fh: int | None = None) -> int:
        self._note(Resize(self._inode(path) if path else int(fh or 0), length))
        return 0

    def fsync(self, _: str | None, __: int, fh: int) -> int:
        if fh in self._failing:
            self._failing.remove(fh)
            self._note(FailedSync(fh))
            raise OSError(errno.EIO, "told to fail")
        self._note(Sync(fh))
        return 0

    def link(self, target: str, source: str) -> int:
        folder, name = self._place(target)
        if name in self._disk.folders[folder]:
            raise OSError(errno.EEXIST, target)
        self._note(Entry(folder, name, self._inode(source)))
        return 0

    def unlink(self, path: str) -> int:
        self._note(Entry(*self._place(path), 0))
        return 0

    def rename(self, old: str, new: str) -> int:
        arrived = self._note(Entry(*self._place(new), self._inode(old)))
        self._note(Entry(*self._place(old), 0, after=arrived))
        return 0

    def setxattr(self, path: str, name: str, value: bytes, _: int, position: int = 0) -> int:  # noqa: ARG002
        if name == FAIL:
            self._failing.add(self._inode(path))
        else:
            self._note(Mark(value.decode()))
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        self._changed[self._inode(path)] = times[1] if times else time.time_ns()
        return 0

    def chmod(self, _: str, __: int) -> int:
        return 0

    def chown(self, _: str, __: int, ___: int) -> int:
        return 0

    def statfs(self, _: str) -> dict[str, int]:
        return {
            "f_bsize": _BLOCK,
            "f_frsize": _BLOCK,
            "f_blocks": _BLOCKS,
            "f_bfree": _BLOCKS,
            "f_bavail": _BLOCKS,
            "f_namemax": 255,
        }


def main(mountpoint: str, file: str) -> None:
    """Serve until it is unmounted, then write the log."""
    from mfusepy import FUSE, fuse_version_major

    if fuse_version_major != 2:
        raise OSError("libfuse2 is needed: by version 3, mfusepy cannot cut an open file")
    recorder = Recorder()
    options = {"nothreads": True, "hard_remove": True, "use_ino": True, "big_writes": True}
    FUSE(recorder, mountpoint, foreground=True, **options)
    Path(file).write_bytes(pickle.dumps(recorder.log))


if __name__ == "__main__":
    main(*sys.argv[1:])

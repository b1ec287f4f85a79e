"""Global and shared memory of an interpreted grid, with every access checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tests.engines.cuda.ptx.parser import PtxFault
from tests.engines.cuda.spaces import Bytes, Region

Integers = npt.NDArray[np.int64]
Array = npt.NDArray[Any]
GLOBAL_BASE = 1 << 33
SHARED_BASE = 1 << 56  # where generic addresses see a block's shared memory
LOCAL_BASE = 1 << 57
SHARED_POISON = 0xA5
NOBODY, SEVERAL = -1, -2


class GlobalMemory:
    """Named regions of one buffer, far enough apart that an access between them is a fault."""

    def __init__(self, buffer: Bytes, regions: list[Region], starts: list[int]) -> None:
        order = np.argsort(starts)
        self.buffer = buffer
        self._regions = [regions[i] for i in order]
        self._starts = np.array([starts[i] for i in order], np.int64)
        self._ends = self._starts + [region.size for region in self._regions]
        self._writable = np.array([region.is_writable for region in self._regions])
        self._written = np.zeros(buffer.size, bool)

    def begin_launch(self) -> None:
        self._written[:] = False

    def load(self, addresses: Integers, datatype: npt.DTypeLike, count: int, stays: bool) -> Array:
        """Return [lanes, count]; `stays`: nobody may write there during the launch."""
        size = np.dtype(datatype).itemsize * count
        rows = self._rows(addresses, size, False)
        if stays and self._written.reshape(-1, size)[rows].any():
            raise PtxFault("ld.global.nc of what the same launch wrote")
        loaded: Array = self.buffer.view(datatype).reshape(-1, count)[rows]
        return loaded

    def store(self, addresses: Integers, values: Array) -> None:
        """Write values [lanes, count]."""
        size = values.dtype.itemsize * values.shape[1]
        rows = self._rows(addresses, size, True)
        self.buffer.view(values.dtype).reshape(-1, values.shape[1])[rows] = values
        self._written.reshape(-1, size)[rows] = True

    def _rows(self, addresses: Integers, size: int, writes: bool) -> Integers:
        offsets = addresses - GLOBAL_BASE
        region = np.searchsorted(self._starts, offsets, "right") - 1
        outside = (region < 0) | (offsets + size > self._ends[np.maximum(region, 0)])
        if outside.any():
            self._fault(int(offsets[outside][0]), size)
        if (offsets % size).any():
            raise PtxFault(f"global access of {size} bytes at an address not aligned to it")
        if writes and not self._writable[region].all():
            name = self._regions[int(region[~self._writable[region]][0])].name
            raise PtxFault(f"a write to {name}, which the kernel only may read")
        rows: Integers = offsets // size
        return rows

    def _fault(self, offset: int, size: int) -> None:
        nearest = int(np.argmin(np.minimum(abs(self._starts - offset), abs(self._ends - offset))))
        name, start = self._regions[nearest].name, int(self._starts[nearest])
        holds = self._regions[nearest].size
        raise PtxFault(f"{size} bytes at byte {offset - start} of {name}, which has {holds}")


class SharedMemory:
    """The shared memory of every block of a grid, and who touched each byte since a barrier.

    Between two barriers of a block no thread may touch what another wrote, nor write what another
    read, but for lanes of one warp with a __syncwarp between.
    """

    def __init__(self, blocks: int, size: int, threads_in_block: int) -> None:
        self.size = size
        self._stride = max(16, -(-size // 16) * 16)
        total = blocks * self._stride
        self._bytes = np.full(total, SHARED_POISON, np.uint8)
        self._threads_in_block = threads_in_block
        self._warps_in_block = -(-threads_in_block // 32)
        self.barriers = np.zeros(blocks, np.int32)  # that a block has passed
        self.warp_barriers = np.zeros(blocks * self._warps_in_block, np.int32)
        self._writes = _Touches(total)
        self._reads = _Touches(total)
        self._copying = np.full(total, NOBODY, np.int32)

    def load(
        self, threads: Integers, addresses: Integers, datatype: npt.DTypeLike, count: int
    ) -> Array:
        size = np.dtype(datatype).itemsize * count
        rows = self._rows(threads, addresses, size)
        self._refuse_copying(rows, size)
        self._check(self._writes, rows, size, threads, "read after a write")
        self._touch(self._reads, rows, size, threads)
        loaded: Array = self._bytes.view(datatype).reshape(-1, count)[rows]
        return loaded

    def store(self, threads: Integers, addresses: Integers, values: Array) -> None:
        size = values.dtype.itemsize * values.shape[1]
        rows = self._rows(threads, addresses, size)
        self._refuse_copying(rows, size)
        self._check(self._writes, rows, size, threads, "write after a write")
        self._check(self._reads, rows, size, threads, "write after a read")
        self._put(rows, values)
        self._touch(self._writes, rows, size, threads)

    def begin_copy(self, threads: Integers, addresses: Integers, size: int) -> None:
        """Mark what cp.async is about to write: until it is waited for, nobody may touch it."""
        rows = self._rows(threads, addresses, size)
        self._check(self._writes, rows, size, threads, "cp.async after a write")
        self._check(self._reads, rows, size, threads, "cp.async after a read")
        self._copying.reshape(-1, size)[rows] = threads[:, None]

    def end_copy(self, threads: Integers, addresses: Integers, values: Bytes) -> None:
        rows = self._rows(threads, addresses, values.shape[1])
        self._copying.reshape(-1, values.shape[1])[rows] = NOBODY
        self._put(rows, values)
        self._touch(self._writes, rows, values.shape[1], threads)

    def _put(self, rows: Integers, values: Array) -> None:
        held = self._bytes.view(values.dtype).reshape(-1, values.shape[1])
        held[rows] = values
        if held[rows].tobytes() != np.ascontiguousarray(values).tobytes():
            raise PtxFault("two threads write different values to the same shared memory at once")

    def _rows(self, threads: Integers, addresses: Integers, size: int) -> Integers:
        outside = (addresses < 0) | (addresses + size > self.size)
        if outside.any():
            at = int(addresses[outside][0])
            raise PtxFault(f"{size} bytes at byte {at} of shared memory, which has {self.size}")
        if (addresses % size).any():
            raise PtxFault(f"shared access of {size} bytes at an address not aligned to it")
        rows: Integers = (threads // self._threads_in_block * self._stride + addresses) // size
        return rows

    def _refuse_copying(self, rows: Integers, size: int) -> None:
        if (self._copying.reshape(-1, size)[rows] != NOBODY).any():
            raise PtxFault("shared memory is touched while cp.async into it is under way")

    def _warps(self, threads: Integers) -> Integers:
        block, thread = np.divmod(threads, self._threads_in_block)
        warps: Integers = block * self._warps_in_block + thread // 32
        return warps

    def _check(
        self, touches: _Touches, rows: Integers, size: int, threads: Integers, what: str
    ) -> None:
        thread, barrier, warp, warp_barrier = touches.rows(rows, size)
        now = self.barriers[threads // self._threads_in_block][:, None]
        clash = (barrier == now) & (thread != threads[:, None]) & (thread != NOBODY)
        if clash.any():
            mine = self._warps(threads)[:, None]
            ordered = (warp == mine) & (warp_barrier < self.warp_barriers[mine])
            clash &= ~ordered
        if clash.any():
            lane, byte = (int(i) for i in np.argwhere(clash)[0])
            who, other = int(threads[lane]), int(thread[lane, byte])
            at = int(rows[lane]) * size + byte
            raise PtxFault(
                f"shared-memory race ({what} without a barrier) at byte {at % self._stride}: "
                f"thread {who % self._threads_in_block} of block {who // self._threads_in_block} "
                + ("and several" if other < 0 else f"and thread {other % self._threads_in_block}")
            )

    def _touch(self, touches: _Touches, rows: Integers, size: int, threads: Integers) -> None:
        warps = self._warps(threads)
        barriers = self.barriers[threads // self._threads_in_block]
        touches.add(rows, size, threads, barriers, warps, self.warp_barriers[warps])


class _Touches:
    """Of every byte: which thread, after which barrier of its block and of its warp."""

    def __init__(self, size: int) -> None:
        self._thread = np.full(size, NOBODY, np.int32)
        self._barrier = np.full(size, -1, np.int32)
        self._warp = np.full(size, NOBODY, np.int32)
        self._warp_barrier = np.zeros(size, np.int32)

    def rows(self, rows: Integers, size: int) -> tuple[Array, Array, Array, Array]:
        return (
            self._thread.reshape(-1, size)[rows],
            self._barrier.reshape(-1, size)[rows],
            self._warp.reshape(-1, size)[rows],
            self._warp_barrier.reshape(-1, size)[rows],
        )

    def add(
        self,
        rows: Integers,
        size: int,
        threads: Integers,
        barriers: Array,
        warps: Integers,
        warp_barriers: Array,
    ) -> None:
        thread, barrier, warp, _ = self.rows(rows, size)
        fresh = barrier == barriers[:, None]
        several = fresh & (thread != threads[:, None])
        others = fresh & (warp != warps[:, None])
        self._set(self._thread, rows, size, np.where(several, SEVERAL, threads[:, None]))
        self._set(self._warp, rows, size, np.where(others, SEVERAL, warps[:, None]))
        self._barrier.reshape(-1, size)[rows] = barriers[:, None]
        self._warp_barrier.reshape(-1, size)[rows] = warp_barriers[:, None]

    def _set(self, held: Array, rows: Integers, size: int, values: Array) -> None:
        """Write; a byte that several lanes touch at once was touched by several."""
        whole = held.reshape(-1, size)
        whole[rows] = values
        clash = whole[rows] != values
        if clash.any():
            lanes, bytes_ = np.nonzero(clash)
            whole[rows[lanes], bytes_] = SEVERAL

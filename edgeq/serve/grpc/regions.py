"""Triton's shared memory extensions over gRPC: POSIX regions; CUDA's are refused."""

from __future__ import annotations

from dataclasses import asdict

from edgeq.errors import MethodNotAllowedError, NotFoundError
from edgeq.serve.grpc.messages import Message, Messages
from edgeq.serve.shared_memory import SharedMemory
from edgeq.serve.tensors import quoted


class RegionCalls:
    """Registering takes no time worth a thread: an open and a look at the file."""

    def __init__(self, regions: SharedMemory, messages: Messages) -> None:
        self._regions = regions
        self._messages = messages

    def status(self, request: Message) -> Message:
        """Tell of one region, or of all."""
        found = self._regions.status(request.name or None)
        status = self._messages["SystemSharedMemoryStatusResponse.RegionStatus"]
        return self._messages["SystemSharedMemoryStatusResponse"](
            regions={region.name: status(**asdict(region)) for region in found}
        )

    def register(self, request: Message) -> Message:
        """Open a segment and give a part of it a name."""
        self._regions.register(request.name, request.key, request.offset, request.byte_size)
        return self._messages["SystemSharedMemoryRegisterResponse"]()

    def unregister(self, request: Message) -> Message:
        """Forget one region, or all."""
        if request.name:
            self._regions.unregister(request.name)
        else:
            self._regions.unregister_all()
        return self._messages["SystemSharedMemoryUnregisterResponse"]()

    def cuda_status(self, request: Message) -> Message:
        """There are none."""
        if request.name:
            raise NotFoundError(
                f"CUDA shared memory region {quoted(request.name)} is unknown; there are none"
            )
        return self._messages["CudaSharedMemoryStatusResponse"]()

    def cuda_register(self, request: Message) -> Message:
        """Refuse, and say why."""
        raise MethodNotAllowedError(
            f"CUDA shared memory region {quoted(request.name)} cannot be registered: a Jetson's "
            "driver has no CUDA IPC, and its GPU shares the box's memory anyway",
            allowed=("SystemSharedMemoryRegister",),
        )

    def cuda_unregister(self, _: Message) -> Message:
        """There is nothing to forget."""
        return self._messages["CudaSharedMemoryUnregisterResponse"]()

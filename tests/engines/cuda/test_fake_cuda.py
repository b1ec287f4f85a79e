"""The fake libcuda under the real pycuda: a driver's rules hold, and what breaks them shows."""

from __future__ import annotations

import pytest

from tests.engines.cuda.fake_libcuda.fake import FakeGpu

# What every child begins with: a kernel y = 2 * x of 64 ints, a context, and memory.
BEGIN = """
import ctypes
import numpy as np
import pycuda.driver as cuda
from edgeq.engines.cuda.compiling import nvrtc
from edgeq.engines.cuda.compiling.render import template
from edgeq.engines.cuda.targets import Target

KERNEL = '''
EQ_KERNEL(64, 1) void twice(const int* x, int* y) { y[threadIdx.x] = 2 * x[threadIdx.x]; }
EQ_EXPORT(twice)
'''

def compiled(sm=87):
    compiler = nvrtc.find_compiler(Target(sm))
    return compiler.compile(template("device.cuh") + KERNEL, Target(sm)).image

cuda.init()
device = cuda.Device(0)
context = device.retain_primary_context()
context.push()
libcuda = ctypes.CDLL("libcuda.so.1")
numbers = np.arange(64, dtype=np.int32)
x, y = cuda.mem_alloc(256), cuda.mem_alloc(256)
pinned = cuda.pagelocked_empty(64, np.int32)
pinned[:] = -1
stream = cuda.Stream()

def failure(call, *arguments, **named):
    try:
        call(*arguments, **named)
    except cuda.Error as error:
        return str(error)
    return "nothing"

def twice():
    function = cuda.module_from_buffer(compiled()).get_function("twice")
    function(x, y, block=(64, 1, 1), grid=(1, 1), stream=stream)
    return function
"""
# And ends with: pycuda would end the process for the context that is still pushed.
END = """
import os, sys
sys.stdout.flush()
os._exit(0)
"""


def child(code: str) -> str:
    return f"{BEGIN}{code}{END}"


@pytest.fixture
def say(fake_gpu: FakeGpu):
    """Runs a child and returns its lines."""

    def said(code: str, **settings: object) -> list[str]:
        return fake_gpu.output(child(code), **settings).splitlines()

    return said


def test_work_is_not_done_before_somebody_waits_for_it(say):
    code = """
cuda.memcpy_htod(x, numbers)
held = twice()
cuda.memcpy_dtoh_async(pinned, y, stream)
print(pinned.tolist() == [-1] * 64)
stream.synchronize()
print(pinned.tolist() == (2 * numbers).tolist())
"""
    assert say(code) == ["True", "True"]


def test_pinned_memory_is_read_when_the_copy_s_turn_comes(say):
    code = """
pinned[:] = numbers
cuda.memcpy_htod_async(x, pinned, stream)
pinned[:] = 7  # too soon
held = twice()
stream.synchronize()
result = np.empty(64, np.int32)
cuda.memcpy_dtoh(result, y)
print(set(result.tolist()))
"""
    assert say(code) == ["{14}"]


def test_the_legacy_stream_waits_for_blocking_ones_and_not_for_others(say):
    code = """
result = np.empty(64, np.int32)
cuda.memcpy_htod(x, numbers)
cuda.memset_d8(y, 0, 256)
held = twice()
cuda.memcpy_dtoh(result, y)
print(result.sum())
handle = ctypes.c_void_p()
libcuda.cuStreamCreate(ctypes.byref(handle), 1)  # non-blocking
cuda.memset_d8(y, 0, 256)
libcuda.cuMemsetD8Async(ctypes.c_ulonglong(int(y)), 1, ctypes.c_size_t(256), handle)
cuda.memcpy_dtoh(result, y)
print(result.sum())
libcuda.cuStreamSynchronize(handle)
cuda.memcpy_dtoh(result, y)
print(result[0] == 0x01010101)
"""
    assert say(code) == ["4032", "0", "True"]


def test_a_graph_is_captured_once_and_replayed(say):
    code = """
handle, graph, executable = ctypes.c_void_p(stream.handle), ctypes.c_void_p(), ctypes.c_void_p()
print(libcuda.cuStreamBeginCapture_v2(handle, 1))
cuda.memcpy_htod_async(x, pinned, stream)
cuda.memcpy_dtod_async(y, x, 256, stream)
cuda.memcpy_dtoh_async(pinned, y, stream)
print(libcuda.cuStreamEndCapture(handle, ctypes.byref(graph)))
print(libcuda.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, ctypes.c_ulonglong(0)))
for value in (3, 5):
    pinned[:] = value
    libcuda.cuGraphLaunch(executable, handle)
    stream.synchronize()
    back = np.empty(64, np.int32)
    cuda.memcpy_dtoh(back, y)
    print(set(back.tolist()))
"""
    assert say(code) == ["0", "0", "0", "{3}", "{5}"]


def test_a_capture_refuses_what_the_driver_refuses(say):
    code = """
handle, graph = ctypes.c_void_p(stream.handle), ctypes.c_void_p()
for wrong in (
    lambda: cuda.mem_alloc(16),
    stream.synchronize,
    lambda: cuda.memset_d8(y, 0, 256),
    lambda: cuda.memcpy_htod(x, numbers),
):
    libcuda.cuStreamBeginCapture_v2(handle, 1)
    print(failure(wrong))
    print(libcuda.cuStreamEndCapture(handle, ctypes.byref(graph)), bool(graph))
"""
    lines = say(code)
    assert lines[1::2] == ["901 False"] * 4
    assert all("captur" in line for line in lines[::2])


def test_events_time_what_was_waited_for(say):
    code = """
start, middle = cuda.Event(), cuda.Event()
start.record(stream)
held = twice()
middle.record(stream)
print(failure(start.time_till, middle))
middle.synchronize()
print(start.time_till(middle) > 0)
cuda.memcpy_htod(x, numbers)
polls = 0
held = twice()
middle.record(stream)
while not middle.query():
    polls += 1
print(polls > 0)
"""
    lines = say(code)
    assert "not ready" in lines[0]
    assert lines[1:] == ["True", "True"]


def test_parameters_of_the_wrong_size_are_refused(fake_gpu: FakeGpu):
    code = """
function = cuda.module_from_buffer(compiled()).get_function("twice")
print(failure(function, x, block=(64, 1, 1), grid=(1, 1)))
print(failure(function, x, y, block=(2048, 1, 1), grid=(1, 1)))
print(failure(cuda.module_from_buffer(compiled()).get_function, "thrice"))
"""
    done = fake_gpu.run(child(code))
    assert [line.count("failed") for line in done.stdout.splitlines()] == [1, 1, 1]
    assert "twice takes 16 bytes of parameters, not 8" in done.stderr


def test_a_kernel_that_reads_freed_memory_ends_the_process(fake_gpu: FakeGpu):
    code = """
held = cuda.module_from_buffer(compiled()).get_function("twice")
address = np.uintp(int(x))
x.free()
held(address, y, block=(64, 1, 1), grid=(1, 1), stream=stream)
stream.synchronize()
"""
    done = fake_gpu.run(child(code))
    assert done.returncode == 70
    assert "byte 0 of freed allocation 1, which has 256" in done.stderr


def test_copies_from_freed_memory_are_refused(say):
    code = """
address = int(x)
x.free()
print(failure(cuda.memcpy_htod, address, numbers))
print(failure(cuda.memcpy_dtoh, numbers, int(y) + 4))
"""
    assert all("failed: invalid argument" in line for line in say(code))


def test_what_is_not_freed_is_counted(fake_gpu: FakeGpu):
    fake_gpu.output(child("z = cuda.mem_alloc(1000)"))
    alive = fake_gpu.control.alive()
    assert alive == {
        "contexts": 1,
        "allocations": 3,
        "allocated_bytes": 256 + 256 + 256 + 1000,
        "pinned": 1,
        "streams": 1,
        "pushed_contexts": 1,
    }


def test_a_program_that_frees_everything_leaves_nothing(fake_gpu: FakeGpu):
    freed = """
held = twice()
cuda.Context.synchronize()
del held, stream
x.free(), y.free(), pinned.base.free()
cuda.Context.pop()
libcuda.cuDevicePrimaryCtxRelease_v2(0)
"""
    fake_gpu.output(child(freed))
    counters = fake_gpu.control.counters()
    assert counters["kernels"] == 1
    left = fake_gpu.control.alive()
    assert left == {}


@pytest.mark.parametrize("popped", [True, False])
def test_a_thread_must_not_end_with_a_context(fake_gpu: FakeGpu, popped: bool):
    code = f"""
import threading

def work():
    context.push()
    if {popped}:
        cuda.Context.pop()

thread = threading.Thread(target=work)
thread.start()
thread.join()
import time
time.sleep(0.3)  # Python's thread is over before the system's
print("alive")
"""
    done = fake_gpu.run(child(code))
    assert (done.returncode == 0) is popped  # pycuda ends the process, as it does on a real GPU
    assert ("alive" in done.stdout) is popped


def test_a_context_left_on_a_thread_by_the_driver_alone_is_counted(fake_gpu: FakeGpu):
    code = """
import threading
handle = ctypes.c_void_p(context.handle)
thread = threading.Thread(target=lambda: libcuda.cuCtxPushCurrent_v2(handle))
thread.start()
thread.join()
import time
time.sleep(0.3)
"""
    fake_gpu.output(child(code))
    assert fake_gpu.control.alive()["threads_left_pushed"] == 1


def test_a_planned_fault_is_sticky_until_the_context_is_reset(fake_gpu: FakeGpu):
    fake_gpu.control.plan("kernel:2:700")
    code = """
for _ in range(2):
    held = twice()
    print(failure(stream.synchronize))
print(failure(cuda.mem_alloc, 16))
print(libcuda.cuDevicePrimaryCtxReset_v2(0))
handle = ctypes.c_void_p()
libcuda.cuDevicePrimaryCtxRetain(ctypes.byref(handle), 0)
libcuda.cuCtxPushCurrent_v2(handle)
address = ctypes.c_ulonglong()
print(libcuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(16)))
"""
    lines = fake_gpu.output(child(code)).splitlines()
    assert lines[0] == "nothing", lines
    assert all("illegal" in line for line in lines[1:3]), lines
    assert lines[3:] == ["0", "0"]


def test_any_call_can_be_planned_to_fail_in_a_running_process(fake_gpu: FakeGpu):
    again = "cuMemAlloc_v2:5:2"  # pycuda collects garbage and tries once more
    fake_gpu.control.plan("cuMemAlloc_v2:4:2", again, "cuModuleLoadDataEx:1:209")
    code = """
image = compiled()
print(failure(cuda.module_from_buffer, image))
print(failure(cuda.module_from_buffer, image))
print(failure(cuda.mem_alloc, 16), failure(cuda.mem_alloc, 16))
"""
    lines = fake_gpu.output(child(code)).splitlines()
    assert "failed: " in lines[0]
    assert lines[1] == "nothing"
    assert lines[2].startswith("nothing cuMemAlloc failed: out of memory")


def test_the_device_is_what_the_environment_says(say):
    code = """
kinds = cuda.device_attribute
print(device.compute_capability(), device.get_attribute(kinds.INTEGRATED))
print(device.get_attribute(kinds.MULTIPROCESSOR_COUNT), device.total_memory())
print(device.name(), cuda.get_driver_version())
print(failure(cuda.module_from_buffer, compiled(87)))
print(failure(cuda.module_from_buffer, compiled(75)))
print(failure(cuda.module_from_buffer, b"no cubin" * 100))
print(failure(cuda.mem_alloc, 2000))
"""
    settings = {"sm": 75, "integrated": 0, "multiprocessors": 40, "memory": 2048, "driver": 12040}
    lines = say(code, name="T4", **settings)
    assert lines[:3] == ["(7, 5) 0", "40 2048", "T4 12040"]
    assert "no kernel image" in lines[3]
    assert lines[4] == "nothing"
    assert "image" in lines[5]
    assert "out of memory" in lines[6]


def test_a_source_that_is_no_c_is_refused_with_the_compiler_s_words(say):
    code = """
from edgeq.errors import EngineError
try:
    nvrtc.find_compiler(Target(87)).compile("int x = nothing;\\nEQ_EXPORT(x)", Target(87))
except EngineError as error:
    print(error.message)
"""
    assert "nothing" in say(code)[0]

// Device and pinned memory: each allocation ends at a page that nobody may touch, and its addresses
// are never used again.
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <map>

#include "driver.h"
#include "runtime.h"

namespace {

const size_t PAGE = 4096, ALIGNMENT = 256;
const unsigned char POISON = 0xCD, MARGIN = 0xC3;

struct Allocation {
  Context* context;
  size_t size, room;  // room: up to the guard page
  bool is_pinned;
  std::string name;
};

std::map<Address, Allocation> allocations;
int64_t made;

size_t rounded(size_t size, size_t unit) { return (size + unit - 1) / unit * unit; }

int allocate(Context* context, Address* address, size_t size, bool is_pinned) {
  if (!size) return INVALID_VALUE;
  const int64_t limit = setting("FAKE_CUDA_MEMORY", 1ll << 30);
  if (counter(ALLOCATED_BYTES) + (int64_t)size > limit) return OUT_OF_MEMORY;
  const size_t room = rounded(size, ALIGNMENT);
  char* start = guarded_memory(room);
  memset(start, POISON, size);
  memset(start + size, MARGIN, room - size);
  *address = (Address)start;
  const std::string name =
      (is_pinned ? "pinned allocation " : "allocation ") + std::to_string(++made);
  allocations[*address] = {context, size, room, is_pinned, name};
  emulator_name_memory(name.c_str(), start, size);
  counter(is_pinned ? PINNED : ALLOCATIONS)++;
  counter(ALLOCATED_BYTES) += size;
  return SUCCESS;
}

void check_margin(Address address, const Allocation& held) {
  const unsigned char* after = (unsigned char*)address;
  for (size_t i = held.size; i < held.room; i++)
    if (after[i] != MARGIN) {
      complain("byte %zu of %s was written, which has %zu", i, held.name.c_str(), held.size);
      _Exit(70);
    }
}

void retire(Address address, const Allocation& held) {
  check_margin(address, held);
  const size_t mapped = rounded(held.room, PAGE);
  char* first = (char*)address + held.room - mapped;
  madvise(first, mapped, MADV_DONTNEED);
  mprotect(first, mapped, PROT_NONE);
  emulator_forget_memory(held.name.c_str());
  emulator_name_memory(("freed " + held.name).c_str(), (void*)address, held.size);
  counter(held.is_pinned ? PINNED : ALLOCATIONS)--;
  counter(ALLOCATED_BYTES) -= held.size;
}

int release(Context* context, Address address, bool is_pinned) {
  auto found = allocations.find(address);
  if (found == allocations.end() || found->second.is_pinned != is_pinned) return INVALID_VALUE;
  if (found->second.context != context) return INVALID_CONTEXT;
  if (int code = drain_all(context)) return code;  // as the driver waits for what may use it
  retire(address, found->second);
  allocations.erase(found);
  return SUCCESS;
}

const Allocation* holding(Address address, size_t size) {
  auto after = allocations.upper_bound(address);
  if (after == allocations.begin()) return nullptr;
  --after;
  return address + size <= after->first + after->second.size ? &after->second : nullptr;
}

bool is_pinned(const void* host, size_t size) {
  const Allocation* found = holding((Address)host, size);
  return found && found->is_pinned;
}

// What a copy does when its turn comes; memory that was freed meanwhile is an illegal address.
Work copying(void* to, const void* from, size_t size, Address device) {
  Context* context = current_context();
  return [=] {
    if (!is_allocated(context, device, size)) return 700;
    memmove(to, from, size);
    return (int)SUCCESS;
  };
}

// From memory that is not pinned the driver copies at once, to be sent when its turn comes.
int copy_in(Stream* stream, Address to, const void* from, size_t size) {
  Context* context = stream->context;
  if (!is_allocated(context, to, size)) return INVALID_VALUE;
  if (is_pinned(from, size)) return put(stream, copying((void*)to, from, size, to));
  const std::string staged((const char*)from, size);
  return put(stream, [=] {
    if (!is_allocated(context, to, staged.size())) return 700;
    memcpy((void*)to, staged.data(), staged.size());
    return (int)SUCCESS;
  });
}

int copy_out(Stream* stream, void* to, Address from, size_t size) {
  if (!is_allocated(stream->context, from, size)) return INVALID_VALUE;
  if (int code = put(stream, copying(to, (void*)from, size, from))) return code;
  return is_pinned(to, size) || stream->capture ? SUCCESS : drain(stream);
}

int fill(Stream* stream, Address to, unsigned value, size_t width, size_t count) {
  Context* context = stream->context;
  if (!is_allocated(context, to, width * count)) return INVALID_VALUE;
  return put(stream, [=] {
    if (!is_allocated(context, to, width * count)) return 700;
    for (size_t i = 0; i < count; i++) memcpy((char*)to + i * width, &value, width);
    return (int)SUCCESS;
  });
}

}  // namespace

bool is_allocated(Context* context, Address address, size_t size) {
  const Allocation* found = holding(address, size);
  return found && found->context == context;
}

void forget_memory(Context* context) {
  for (auto at = allocations.begin(); at != allocations.end();) {
    const bool gone = at->second.context == context;
    if (gone) retire(at->first, at->second);
    at = gone ? allocations.erase(at) : std::next(at);
  }
}

DRIVER cuMemGetInfo_v2(size_t* left, size_t* total) {
  ENTER_CONTEXT
  *total = setting("FAKE_CUDA_MEMORY", 1ll << 30);
  *left = *total - counter(ALLOCATED_BYTES);
  return SUCCESS;
}
DRIVER cuMemAlloc_v2(Address* address, size_t size) {
  ENTER_CONTEXT
  if (int fault = refuse_capture(context)) return fault;
  return allocate(context, address, size, false);
}
DRIVER cuMemFree_v2(Address address) {
  ENTER_CONTEXT
  if (int fault = refuse_capture(context)) return fault;
  return release(context, address, false);
}
DRIVER cuMemHostAlloc(void** host, size_t size, unsigned) {
  ENTER_CONTEXT
  if (int fault = refuse_capture(context)) return fault;
  return allocate(context, (Address*)host, size, true);
}
DRIVER cuMemFreeHost(void* host) {
  ENTER_CONTEXT
  if (int fault = refuse_capture(context)) return fault;
  return release(context, (Address)host, true);
}
DRIVER cuMemHostGetDevicePointer_v2(Address* address, void* host, unsigned) {
  ENTER_CONTEXT
  *address = (Address)host;
  return is_pinned(host, 1) ? SUCCESS : INVALID_VALUE;
}
DRIVER cuMemHostGetFlags(unsigned* flags, void* host) {
  ENTER_CONTEXT
  *flags = 2;  // mapped
  return is_pinned(host, 1) ? SUCCESS : INVALID_VALUE;
}
DRIVER cuMemGetAddressRange_v2(Address* start, size_t* size, Address address) {
  ENTER_CONTEXT
  auto after = allocations.upper_bound(address);
  if (!is_allocated(context, address, 1)) return INVALID_VALUE;
  --after;
  if (start) *start = after->first;
  if (size) *size = after->second.size;
  return SUCCESS;
}

// Without a stream: the legacy one. Only what the host then has is waited for.
DRIVER cuMemcpyHtoD_v2(Address to, const void* from, size_t size) {
  ENTER_CONTEXT
  if (int fault = refuse_capture(context)) return fault;
  return copy_in(&context->legacy, to, from, size);
}
DRIVER cuMemcpyDtoH_v2(void* to, Address from, size_t size) {
  ENTER_CONTEXT
  if (int fault = refuse_capture(context)) return fault;
  const int code = copy_out(&context->legacy, to, from, size);
  return code ? code : drain(&context->legacy);
}
DRIVER cuMemcpyDtoD_v2(Address to, Address from, size_t size) {
  ENTER_CONTEXT
  if (!is_allocated(context, to, size) || !is_allocated(context, from, size)) return INVALID_VALUE;
  return put(&context->legacy, copying((void*)to, (void*)from, size, to));
}
DRIVER cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t size, void* handle) {
  ENTER_CONTEXT
  Stream* stream = find_stream(context, handle);
  return stream ? copy_in(stream, to, from, size) : INVALID_HANDLE;
}
DRIVER cuMemcpyDtoHAsync_v2(void* to, Address from, size_t size, void* handle) {
  ENTER_CONTEXT
  Stream* stream = find_stream(context, handle);
  return stream ? copy_out(stream, to, from, size) : INVALID_HANDLE;
}
DRIVER cuMemcpyDtoDAsync_v2(Address to, Address from, size_t size, void* handle) {
  ENTER_CONTEXT
  Stream* stream = find_stream(context, handle);
  if (!stream) return INVALID_HANDLE;
  if (!is_allocated(context, to, size) || !is_allocated(context, from, size)) return INVALID_VALUE;
  return put(stream, copying((void*)to, (void*)from, size, to));
}
DRIVER cuMemsetD8_v2(Address to, unsigned char value, size_t count) {
  ENTER_CONTEXT
  return fill(&context->legacy, to, value, 1, count);
}
DRIVER cuMemsetD32_v2(Address to, unsigned value, size_t count) {
  ENTER_CONTEXT
  return fill(&context->legacy, to, value, 4, count);
}
DRIVER cuMemsetD8Async(Address to, unsigned char value, size_t count, void* handle) {
  ENTER_CONTEXT
  Stream* stream = find_stream(context, handle);
  return stream ? fill(stream, to, value, 1, count) : INVALID_HANDLE;
}
DRIVER cuMemsetD32Async(Address to, unsigned value, size_t count, void* handle) {
  ENTER_CONTEXT
  Stream* stream = find_stream(context, handle);
  return stream ? fill(stream, to, value, 4, count) : INVALID_HANDLE;
}

// Contexts, the device, errors, planned faults.
#include "driver.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <sstream>

#include "runtime.h"

Control* control;

namespace {

std::recursive_mutex mutex;
bool is_initialized;
std::unique_ptr<Context> primary;
std::set<Context*> contexts;

// "cuMemAlloc_v2:3:2" is: its third call from now on returns 2. "kernel:2:700" is: the second kernel
// to run ends in a sticky 700.
struct Fault {
  std::string event;
  int64_t calls_left;
  int code;
};
std::vector<Fault> faults;
int64_t request_seen;

struct Stack {
  std::vector<Context*> contexts;
  ~Stack() {
    if (contexts.empty()) return;
    counter(THREADS_LEFT_PUSHED)++;
    counter(PUSHED_CONTEXTS) -= contexts.size();
  }
};
thread_local Stack stack;

void plan_faults(const char* text) {
  faults.clear();
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ';');) {
    char event[100];
    long long calls;
    int code;
    if (sscanf(part.c_str(), "%99[^:]:%lld:%d", event, &calls, &code) == 3)
      faults.push_back({event, calls, code});
  }
}

void attach_control() {
  const char* path = getenv("FAKE_CUDA_CONTROL");
  const int file = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
  const int flags = file >= 0 ? MAP_SHARED : MAP_SHARED | MAP_ANONYMOUS;
  if (file >= 0 && ftruncate(file, sizeof(Control))) abort();
  control = (Control*)mmap(nullptr, sizeof(Control), PROT_READ | PROT_WRITE, flags, file, 0);
  if (file >= 0) close(file);
  request_seen = control->request;
  plan_faults(control->faults);
}

// After all that it uses: as the last of these to be constructed.
const struct Start {
  Start() {
    attach_control();
    emulator_catch_faults();
  }
} start;

void destroy(Context* context) {
  drain_all(context);
  forget_streams(context);
  forget_modules(context);
  forget_memory(context);
  contexts.erase(context);
  counter(CONTEXTS)--;
}

int release_primary(bool all) {
  if (!primary) return INVALID_CONTEXT;
  primary->retained = all ? 0 : primary->retained - 1;
  if (primary->retained > 0) return SUCCESS;
  destroy(primary.get());
  primary.release();  // its address stays on stacks: never another context's
  return SUCCESS;
}

int push(Context* context) {
  stack.contexts.push_back(context);
  counter(PUSHED_CONTEXTS)++;
  return SUCCESS;
}

int pop(Context** context) {
  if (stack.contexts.empty()) return INVALID_CONTEXT;
  if (context) *context = stack.contexts.back();
  stack.contexts.pop_back();
  counter(PUSHED_CONTEXTS)--;
  return SUCCESS;
}

int create(Context** context) {
  *context = new Context(false);
  return push(*context);
}

struct Words {
  int code;
  const char *name, *text;
};
const Words WORDS[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {401, "CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {600, "CUDA_ERROR_NOT_READY", "device not ready"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {702, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
    {709, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"},
    {716, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {906, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

const Words* words_of(int code) {
  static std::map<int, std::pair<std::string, Words>> others;
  for (const Words& words : WORDS)
    if (words.code == code) return &words;
  auto& other = others[code];
  other.first = "error " + std::to_string(code);
  other.second = {code, other.first.c_str(), other.first.c_str()};
  return &other.second;
}

}  // namespace

Context::Context(bool primary) : is_primary(primary), legacy{this, true, true, {}, nullptr} {
  streams.insert(&legacy);
  contexts.insert(this);
  counter(CONTEXTS)++;
}

Lock lock_driver() { return Lock(mutex); }

int planned_fault(const char* event) {
  if (control->request != request_seen) {
    request_seen = control->request;
    plan_faults(control->faults);
  }
  int code = SUCCESS;
  for (Fault& fault : faults)
    if (fault.event == event && --fault.calls_left == 0) code = fault.code;
  return code;
}

int enter(const char* call) {
  counter(CALLS)++;
  if (int fault = planned_fault(call)) return fault;
  return is_initialized || !strcmp(call, "cuInit") ? SUCCESS : NOT_INITIALIZED;
}

Context* current_context() {
  Context* context = stack.contexts.empty() ? nullptr : stack.contexts.back();
  return context && contexts.count(context) ? context : nullptr;
}

int no_context() { return stack.contexts.empty() ? INVALID_CONTEXT : CONTEXT_IS_DESTROYED; }

int64_t setting(const char* name, int64_t otherwise) {
  const char* value = getenv(name);
  return value ? atoll(value) : otherwise;
}

void complain(const char* format, ...) {
  fprintf(stderr, "fake libcuda: ");
  va_list values;
  va_start(values, format);
  vfprintf(stderr, format, values);
  va_end(values);
  fprintf(stderr, "\n");
}

// ---- the device

DRIVER cuInit(unsigned) {
  Lock lock = lock_driver();
  if (int fault = enter(__func__)) return fault;
  is_initialized = true;
  return setting("FAKE_CUDA_DEVICES", 1) ? SUCCESS : NO_DEVICE;
}
DRIVER cuDriverGetVersion(int* version) {
  *version = (int)setting("FAKE_CUDA_DRIVER", 12090);
  return SUCCESS;
}
DRIVER cuGetErrorString(int code, const char** text) {
  Lock lock = lock_driver();
  *text = words_of(code)->text;
  return SUCCESS;
}
DRIVER cuGetErrorName(int code, const char** name) {
  Lock lock = lock_driver();
  *name = words_of(code)->name;
  return SUCCESS;
}
DRIVER cuDeviceGetCount(int* count) {
  ENTER
  *count = 1;
  return SUCCESS;
}
DRIVER cuDeviceGet(int* device, int ordinal) {
  ENTER
  *device = 0;
  return ordinal ? INVALID_DEVICE : SUCCESS;
}
DRIVER cuDeviceGetName(char* name, int size, int) {
  ENTER
  const char* given = getenv("FAKE_CUDA_NAME");
  snprintf(name, size, "%s", given ? given : "emulated GPU");
  return SUCCESS;
}
DRIVER cuDeviceTotalMem_v2(size_t* size, int) {
  ENTER
  *size = setting("FAKE_CUDA_MEMORY", 1ll << 30);
  return SUCCESS;
}
DRIVER cuDeviceComputeCapability(int* major, int* minor, int) {
  ENTER
  const int sm = (int)setting("FAKE_CUDA_SM", 87);
  *major = sm / 10;
  *minor = sm % 10;
  return SUCCESS;
}
DRIVER cuDeviceGetAttribute(int* value, int attribute, int) {
  ENTER
  const int sm = (int)setting("FAKE_CUDA_SM", 87);
  const std::map<int, int64_t> known = {
      {1, 1024},       {2, 1024},  {3, 1024},    {4, 64},      {5, 2147483647}, {6, 65535},
      {7, 65535},      {8, 49152}, {10, 32},     {12, 65536},  {13, 1000000},
      {16, setting("FAKE_CUDA_MULTIPROCESSORS", 8)},           {18, setting("FAKE_CUDA_INTEGRATED", 1)},
      {19, 1},         {31, 1},    {36, 3200000}, {37, 128},   {38, 4 << 20},   {39, 1536},
      {41, 1},         {75, sm / 10}, {76, sm % 10}, {81, 167936}, {82, 65536}, {83, 1},
      {97, 166912},
  };
  auto found = known.find(attribute);
  *value = found == known.end() ? 0 : (int)found->second;
  return SUCCESS;
}
DRIVER cuDeviceGetPCIBusId(char* text, int size, int) {
  ENTER
  snprintf(text, size, "0000:00:00.0");
  return SUCCESS;
}

// ---- contexts

DRIVER cuDevicePrimaryCtxRetain(Context** context, int) {
  ENTER
  if (!primary) primary.reset(new Context(true));
  primary->retained++;
  *context = primary.get();
  return SUCCESS;
}
DRIVER cuDevicePrimaryCtxRelease_v2(int) {
  ENTER
  return release_primary(false);
}
DRIVER cuDevicePrimaryCtxReset_v2(int) {
  ENTER
  return primary ? release_primary(true) : SUCCESS;
}
DRIVER cuDevicePrimaryCtxGetState(int, unsigned* flags, int* active) {
  ENTER
  *flags = 0;
  *active = primary != nullptr;
  return SUCCESS;
}
DRIVER cuCtxCreate_v2(Context** context, unsigned, int) {
  ENTER
  return create(context);
}
DRIVER cuCtxCreate_v4(Context** context, void*, unsigned, int) {
  ENTER
  return create(context);
}
DRIVER cuCtxDestroy_v2(Context* context) {
  ENTER
  if (!contexts.count(context) || context->is_primary) return INVALID_CONTEXT;
  if (!stack.contexts.empty() && stack.contexts.back() == context) pop(nullptr);
  destroy(context);
  return SUCCESS;
}
DRIVER cuCtxDetach(Context* context) {
  ENTER
  if (!contexts.count(context) || context->is_primary) return INVALID_CONTEXT;
  if (!stack.contexts.empty() && stack.contexts.back() == context) pop(nullptr);
  destroy(context);
  return SUCCESS;
}
DRIVER cuCtxPushCurrent_v2(Context* context) {
  ENTER
  return contexts.count(context) ? push(context) : INVALID_CONTEXT;
}
DRIVER cuCtxPopCurrent_v2(Context** context) {
  ENTER
  return pop(context);
}
DRIVER cuCtxSetCurrent(Context* context) {
  ENTER
  if (!stack.contexts.empty()) pop(nullptr);
  return context ? push(context) : SUCCESS;
}
DRIVER cuCtxGetCurrent(Context** context) {
  ENTER
  *context = stack.contexts.empty() ? nullptr : stack.contexts.back();
  return SUCCESS;
}
DRIVER cuCtxGetDevice(int* device) {
  ENTER_CONTEXT
  *device = 0;
  return SUCCESS;
}
DRIVER cuCtxGetApiVersion(Context*, unsigned* version) {
  ENTER
  *version = 3020;
  return SUCCESS;
}
DRIVER cuCtxGetFlags(unsigned* flags) {
  ENTER_CONTEXT
  *flags = 0;
  return SUCCESS;
}
DRIVER cuCtxSynchronize() {
  ENTER_CONTEXT
  if (int fault = refuse_capture(context)) return fault;
  return drain_all(context);
}

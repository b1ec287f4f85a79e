// A stand-in for libcuda.so.1: what its parts share.
//
// One device, which computes with the emulator. Work waits in its stream until somebody waits for
// it, so that a missing synchronization shows; every handle and address is checked; what is alive is
// counted where another process can read it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

enum Code {  // of cuda.h's CUresult
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NOT_INITIALIZED = 3,
  NO_DEVICE = 100,
  INVALID_DEVICE = 101,
  INVALID_IMAGE = 200,
  INVALID_CONTEXT = 201,
  NO_BINARY_FOR_GPU = 209,
  INVALID_HANDLE = 400,
  ILLEGAL_STATE = 401,
  NOT_FOUND = 500,
  NOT_READY = 600,
  LAUNCH_OUT_OF_RESOURCES = 701,
  CONTEXT_IS_DESTROYED = 709,
  LAUNCH_FAILED = 719,
  NOT_SUPPORTED = 801,
  CAPTURE_UNSUPPORTED = 900,
  CAPTURE_INVALIDATED = 901,
  CAPTURE_IMPLICIT = 906,
};

typedef unsigned long long Address;
typedef std::function<int()> Work;  // returns 0, or the sticky error that it ends in

// Shared with the test's process, which knows this layout.
enum Counter {
  CONTEXTS,
  ALLOCATIONS,
  ALLOCATED_BYTES,
  PINNED,
  MODULES,
  STREAMS,
  EVENTS,
  GRAPHS,
  EXECUTABLE_GRAPHS,
  PUSHED_CONTEXTS,     // on the stacks of all threads
  THREADS_LEFT_PUSHED,  // ended with a context on their stack
  CALLS,
  KERNELS,  // that have run
  GRAPH_LAUNCHES,
  COUNTERS,
};
struct Control {
  int64_t counters[32];
  int64_t request;  // raised by whoever writes `faults`
  char faults[512];
};
extern Control* control;
inline int64_t& counter(Counter which) { return control->counters[which]; }

struct Capture {
  int mode;  // 0 global, 1 this thread, 2 relaxed
  std::thread::id thread;
  bool is_spoiled = false;
  std::vector<Work> work;
};

struct Item {
  uint64_t number;  // in the order of all calls
  Work work;
};

struct Context;
struct Stream {
  Context* context;
  bool is_legacy, is_blocking;
  std::deque<Item> queue;
  std::unique_ptr<Capture> capture;
};

struct Context {
  bool is_primary;
  int retained = 0;
  int failed = 0;  // the sticky error
  Stream legacy;
  std::set<Stream*> streams;  // the legacy one too
  explicit Context(bool primary);
};

typedef std::unique_lock<std::recursive_mutex> Lock;
Lock lock_driver();
int enter(const char* call);  // counts, and returns the fault that is planned for this call
int planned_fault(const char* event);
Context* current_context();
int no_context();  // why there is none: the error
int64_t setting(const char* name, int64_t otherwise);
[[gnu::format(printf, 1, 2)]] void complain(const char* format, ...);

#define DRIVER extern "C" __attribute__((visibility("default"))) int
#define ENTER                   \
  Lock lock = lock_driver();    \
  if (int fault = enter(__func__)) return fault;
#define ENTER_CONTEXT                                \
  ENTER                                              \
  Context* context = current_context();              \
  if (!context) return no_context();                 \
  if (context->failed) return context->failed;

// ---- streams.cpp
Stream* find_stream(Context* context, void* handle);  // null where there is none
int put(Stream* stream, Work work);
int drain(Stream* stream);           // runs all of it, and what it waits for
int drain_all(Context* context);
int refuse_capture(Context* context);  // calls that a capture on this thread does not allow
void forget_streams(Context* context);
uint64_t next_number();

// ---- memory.cpp
bool is_allocated(Context* context, Address address, size_t size);
void forget_memory(Context* context);

// ---- modules.cpp
void forget_modules(Context* context);

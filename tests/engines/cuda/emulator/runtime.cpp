// Runs a kernel's grid on fibers: one for each CUDA thread, on one thread of the machine.
//
// Barriers and warp collectives count arrivals; who has to wait lets the next fiber run. cp.async is
// put off to its wait. Shared memory is poisoned for each block and ends at a guard page. A seed
// shuffles threads and blocks, runs some blocks side by side and does some copies early.
#include "runtime.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "core.h"
#include "switch.h"

thread_local emulator::Thread* emulator::emulator_thread;
thread_local emulator::Block* emulator::emulator_block;

namespace {
using emulator::Index;

const size_t STACK_BYTES = 64 << 10, PAGE = 4096;
const size_t STATIC_SHARED_LIMIT = 48 << 10, SHARED_LIMIT = 227 << 10;  // sm_90's is the largest
const unsigned POISON = 0xA5;

struct Copy {
  void* to;
  const void* from;
  u32 read, bytes;
};

struct Fiber : emulator::Thread {
  void* stack_pointer;
  bool done;
  const volatile u32* waits_while;  // the counter that still has waited_value
  u32 waited_value;
  const char* waits_for;
  std::vector<Copy> copies;
  std::vector<size_t> groups;  // ends within copies
};

struct Shared {
  char* start;
  size_t size;
};

struct Stacks {  // of one block's fibers, kept from launch to launch
  char* memory = nullptr;
  size_t count = 0;
};

struct RunningBlock : emulator::Block {
  u32 arrived, generation, live;
  int sum[2];
  void* scheduler_stack;
  std::vector<Fiber> fibers;
  std::vector<emulator::Warp> warp_states;
  std::vector<u32> order;
  std::map<int, Shared> shared;
  size_t static_shared = 0;
  bool running = false;
  Stacks stacks;
};

struct Grid {
  void (*entry)(const unsigned long long*);
  const unsigned long long* given;
  Index grid, threads;
  u32 thread_count, dynamic_bytes;
  uint64_t random;
  bool shuffled;
};

Grid* grid;
std::vector<std::unique_ptr<RunningBlock>> pool;

RunningBlock& block() { return *static_cast<RunningBlock*>(emulator::emulator_block); }
Fiber& fiber() { return *static_cast<Fiber*>(emulator::emulator_thread); }

u32 random_below(u32 limit) {
  grid->random = grid->random * 6364136223846793005ull + 1442695040888963407ull;
  return (u32)(grid->random >> 33) % limit;
}

[[noreturn]] void fail(const char* format, ...) {
  fprintf(stderr, "emulator: ");
  va_list values;
  va_start(values, format);
  vfprintf(stderr, format, values);
  va_end(values);
  if (emulator::emulator_block) {
    const Index& b = block().index;
    fprintf(stderr, " (block %u,%u,%u", b.x, b.y, b.z);
    if (emulator::emulator_thread) {
      const Index& t = fiber().index;
      fprintf(stderr, " thread %u,%u,%u", t.x, t.y, t.z);
    }
    fprintf(stderr, ")");
  }
  fprintf(stderr, "\n");
  fflush(stderr);
  _Exit(70);
}

}  // namespace

namespace {

void yield() { emulator_switch(&fiber().stack_pointer, block().scheduler_stack); }

void wait_while(const volatile u32* counter, u32 value, const char* what) {
  Fiber& f = fiber();
  f.waits_while = counter;
  f.waited_value = value;
  f.waits_for = what;
  while (*counter == value) yield();
  f.waits_while = nullptr;
}

void release_barrier(RunningBlock& b) {
  b.arrived = 0;
  b.sum[~b.generation & 1] = 0;
  b.generation++;
}

void carry_out(const Copy& copy) {
  memcpy(copy.to, copy.from, copy.read);
  memset((char*)copy.to + copy.read, 0, copy.bytes - copy.read);
}

void end_thread() {
  Fiber& f = fiber();
  RunningBlock& b = block();
  emulator::Warp& warp = b.warps[f.warp];
  if (!f.copies.empty()) fail("a thread ends with cp.async that nobody waited for");
  f.done = true;
  warp.live--;
  if (warp.arrived) fail("a thread ends while its warp waits in %s", warp.name);
  b.live--;
  if (b.live && b.arrived == b.live) release_barrier(b);
}

void thread_main() {
  grid->entry(grid->given);
  end_thread();
  yield();
  abort();
}

void prepare_thread(RunningBlock& b, u32 number) {
  Fiber& f = b.fibers[number];
  f.done = false;
  f.waits_while = nullptr;
  f.copies.clear();
  f.groups.clear();
  const Index& n = b.threads;
  f.index = {number % n.x, number / n.x % n.y, number / (n.x * n.y)};
  f.lane = number % 32;
  f.warp = number / 32;
  emulator::Warp& warp = b.warps[f.warp];
  warp.size = ++warp.live;
  f.stack_pointer = emulator_new_stack(b.stacks.memory + STACK_BYTES * (number + 1), thread_main);
}

void reserve_stacks(Stacks& stacks, size_t count) {
  if (stacks.count >= count) return;
  if (stacks.memory) munmap(stacks.memory, stacks.count * STACK_BYTES);
  stacks.memory = (char*)mmap(nullptr, count * STACK_BYTES, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stacks.memory == MAP_FAILED) fail("no memory for the stacks of %zu threads", count);
  stacks.count = count;
  for (size_t i = 0; i < count; i++) mprotect(stacks.memory + i * STACK_BYTES, PAGE, PROT_NONE);
}

void start_block(RunningBlock& b, u32 number) {
  const Grid& g = *grid;
  b.grid = g.grid;
  b.threads = g.threads;
  b.index = {number % g.grid.x, number / g.grid.x % g.grid.y, number / (g.grid.x * g.grid.y)};
  b.fibers.resize(g.thread_count);
  b.warp_states.assign((g.thread_count + 31) / 32, emulator::Warp());
  b.warps = b.warp_states.data();
  b.order.resize(g.thread_count);
  for (u32 i = 0; i < g.thread_count; i++) b.order[i] = i;
  b.arrived = b.generation = 0;
  b.sum[0] = b.sum[1] = 0;
  b.live = g.thread_count;
  reserve_stacks(b.stacks, g.thread_count);
  for (auto& shared : b.shared) memset(shared.second.start, POISON, shared.second.size);
  for (u32 i = 0; i < g.thread_count; i++) prepare_thread(b, i);
  b.running = true;
}

void report_deadlock(RunningBlock& b) {
  for (Fiber& f : b.fibers)
    if (!f.done) {
      emulator::emulator_thread = &f;
      fail("deadlock: %u of %u threads still live, this one waits in %s", b.live,
           grid->thread_count, f.waits_for);
    }
}

// Every thread that can run goes on until it has to wait.
void run_round(RunningBlock& b) {
  emulator::emulator_block = &b;
  bool any = false;
  if (grid->shuffled)
    for (u32 i = grid->thread_count - 1; i > 0; i--) std::swap(b.order[i], b.order[random_below(i + 1)]);
  for (u32 number : b.order) {
    Fiber& f = b.fibers[number];
    if (f.done || (f.waits_while && *f.waits_while == f.waited_value)) continue;
    any = true;
    emulator::emulator_thread = &f;
    emulator_switch(&b.scheduler_stack, f.stack_pointer);
  }
  emulator::emulator_thread = nullptr;
  if (!any && b.live) report_deadlock(b);
  if (!b.live) b.running = false;
  emulator::emulator_block = nullptr;
}

void free_shared(RunningBlock& b) {
  for (auto& shared : b.shared) {
    const size_t mapped = (shared.second.size + PAGE - 1) / PAGE * PAGE;
    munmap(shared.second.start + shared.second.size - mapped, mapped + PAGE);
  }
  b.shared.clear();
  b.static_shared = 0;
}

void run_grid() {
  const u32 blocks = grid->grid.x * grid->grid.y * grid->grid.z;
  const u32 resident = std::min(blocks, grid->shuffled ? 3u : 1u);
  while (pool.size() < resident) pool.emplace_back(new RunningBlock());
  std::vector<u32> order(blocks);
  for (u32 i = 0; i < blocks; i++) order[i] = i;
  if (grid->shuffled)
    for (u32 i = blocks - 1; i > 0; i--) std::swap(order[i], order[random_below(i + 1)]);
  for (u32 next = 0, live = resident; live;) {
    live = 0;
    for (u32 i = 0; i < resident; i++) {
      if (!pool[i]->running && next < blocks) start_block(*pool[i], order[next++]);
      if (pool[i]->running) run_round(*pool[i]), live++;
    }
  }
  for (u32 i = 0; i < resident; i++) free_shared(*pool[i]);
}

char* shared_memory(int site, size_t bytes) {
  RunningBlock& b = block();
  auto found = b.shared.find(site);
  if (found == b.shared.end()) {
    const size_t size = (bytes + 15) / 16 * 16;
    found = b.shared.emplace(site, Shared{guarded_memory(size), size}).first;
    memset(found->second.start, POISON, size);
  }
  return found->second.start;
}

}  // namespace

char* guarded_memory(size_t size) {
  const size_t mapped = (size + PAGE - 1) / PAGE * PAGE;
  char* start = (char*)mmap(nullptr, mapped + PAGE, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) fail("no memory for %zu bytes", size);
  mprotect(start + mapped, PAGE, PROT_NONE);
  return start + mapped - size;
}

namespace emulator {
extern "C" {

void emulator_fail(const char* message) { fail("%s", message); }

int emulator_barrier_sum(int value) {
  RunningBlock& b = block();
  const u32 generation = b.generation;
  b.sum[generation & 1] += value;
  if (++b.arrived == b.live)
    release_barrier(b);
  else
    wait_while(&b.generation, generation, "__syncthreads");
  return b.sum[generation & 1];
}

void emulator_barrier() { emulator_barrier_sum(0); }

void emulator_warp(const char* name, Collective compute) {
  Warp& warp = block().warps[fiber().warp];
  if (warp.live != 32) fail("%s: the warp has %u lanes left of 32", name, warp.live);
  if (!warp.arrived) warp.name = name;
  if (strcmp(warp.name, name)) fail("%s: other lanes of the warp are at %s", name, warp.name);
  const u32 generation = warp.generation;
  if (++warp.arrived < warp.live) return wait_while(&warp.generation, generation, name);
  warp.arrived = 0;
  if (compute) compute(warp, generation & 1);
  warp.generation++;
}

void emulator_interleave() {
  if (grid->shuffled && random_below(2)) yield();
}

char* emulator_shared(int site, size_t bytes) {
  RunningBlock& b = block();
  if (!b.shared.count(site) && (b.static_shared += bytes) > STATIC_SHARED_LIMIT)
    fail("%zu bytes of static shared memory; 49152 is the limit", b.static_shared);
  return shared_memory(site, bytes);
}

char* emulator_dynamic_shared() {
  if (grid->dynamic_bytes > SHARED_LIMIT)
    fail("%u bytes of dynamic shared memory; %zu is the limit", grid->dynamic_bytes, SHARED_LIMIT);
  return shared_memory(-1, grid->dynamic_bytes);
}

void emulator_copy(void* to, const void* from, u32 read, u32 bytes) {
  if (((size_t)to | (size_t)from) % bytes) fail("cp.async at an address not aligned to %u", bytes);
  const Copy copy = {to, from, read, bytes};
  if (grid->shuffled && random_below(2)) return carry_out(copy);
  fiber().copies.push_back(copy);
}

void emulator_copy_commit() { fiber().groups.push_back(fiber().copies.size()); }

void emulator_copy_wait(u32 groups_left) {
  Fiber& f = fiber();
  if (f.groups.size() <= groups_left) return;
  const size_t finished = f.groups.size() - groups_left, end = f.groups[finished - 1];
  for (size_t i = 0; i < end; i++) carry_out(f.copies[i]);
  f.copies.erase(f.copies.begin(), f.copies.begin() + end);
  f.groups.erase(f.groups.begin(), f.groups.begin() + finished);
  for (size_t& group : f.groups) group -= end;
}

}  // extern "C"
}  // namespace emulator

void emulator_launch(void (*entry)(const unsigned long long*), const unsigned long long* given,
                     const unsigned* grid_size, const unsigned* threads, unsigned dynamic_bytes,
                     uint64_t seed) {
  Grid now = {entry,
              given,
              {grid_size[0], grid_size[1], grid_size[2]},
              {threads[0], threads[1], threads[2]},
              threads[0] * threads[1] * threads[2],
              dynamic_bytes,
              seed * 2654435761u + 1,
              seed != 0};
  if (!now.thread_count || now.thread_count > 1024) fail("%u threads in a block", now.thread_count);
  if (!now.grid.x || !now.grid.y || !now.grid.z) fail("an empty grid");
  if (now.grid.y > 65535 || now.grid.z > 65535) fail("a grid of more than 65535 blocks in y or z");
  grid = &now;
  run_grid();
  grid = nullptr;
}

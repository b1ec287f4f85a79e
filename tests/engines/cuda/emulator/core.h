// CUDA's types, and how an emulated kernel calls the runtime.
#pragma once

typedef signed char i8;
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;
typedef __SIZE_TYPE__ size_t;
static_assert(sizeof(size_t) == sizeof(void*), "64-bit hosts only");

struct alignas(2) char2 { signed char x, y; };
struct alignas(4) char4 { signed char x, y, z, w; };
struct alignas(4) uchar4 { unsigned char x, y, z, w; };
struct alignas(4) short2 { short x, y; };
struct alignas(8) short4 { short x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { u32 x, y; };
struct alignas(16) uint4 { u32 x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };

namespace emulator {

struct Index { u32 x, y, z; };

struct Thread {
  Index index;
  u32 lane, warp;
};

struct Warp;
typedef void (*Collective)(Warp&, int turn);

// Lanes meet here: each writes its words, the last to arrive computes, all read their results. Two
// turns, so that a fast lane can enter the next collective while a slow one still reads this one.
struct Warp {
  u32 size, live, arrived, generation;
  const char* name;
  u32 in[2][32][16];
  u32 out[2][32][8];
};

struct Block {
  Index index, threads, grid;
  Warp* warps;
};

extern "C" {
extern thread_local Thread* emulator_thread __attribute__((tls_model("initial-exec")));
extern thread_local Block* emulator_block __attribute__((tls_model("initial-exec")));
void emulator_barrier();
int emulator_barrier_sum(int value);  // of all threads' values
void emulator_warp(const char* name, Collective compute);
void emulator_interleave();  // a point where another thread may go first
char* emulator_shared(int site, size_t bytes);
char* emulator_dynamic_shared();
void emulator_copy(void* to, const void* from, u32 read, u32 bytes);  // cp.async
void emulator_copy_commit();
void emulator_copy_wait(u32 groups_left);
[[noreturn]] void emulator_fail(const char* message);
}

void load_matrix(Warp&, int);
void multiply_16832(Warp&, int);
void multiply_8816(Warp&, int);
void multiply_161616(Warp&, int);
void vote(Warp&, int);

// Which lane holds which element of a wmma fragment is the hardware's secret: lanes are rotated.
const u32 FRAGMENT_ROTATION = 5;

inline Warp& warp() { return emulator_block->warps[emulator_thread->warp]; }

// One collective of this warp: `words` in, what `compute` left for this lane out.
template <int Words_, int Results_>
inline void collective(const char* name, Collective compute, const void* words, void* results) {
  Warp& w = warp();
  const int turn = w.generation & 1;
  const u32 lane = emulator_thread->lane;
  __builtin_memcpy(w.in[turn][lane], words, 4 * Words_);
  emulator_warp(name, compute);
  __builtin_memcpy(results, w.out[turn][lane], 4 * Results_);
}

// A shuffle: the word that lane `from` gave; a lane outside the warp gives one's own.
template <class T>
inline T shuffle(const char* name, T value, u32 from) {
  static_assert(sizeof(T) == 4, "shuffles move 32 bits");
  Warp& w = warp();
  const int turn = w.generation & 1;
  __builtin_memcpy(w.in[turn][emulator_thread->lane], &value, 4);
  emulator_warp(name, nullptr);
  if (from < 32) __builtin_memcpy(&value, w.in[turn][from], 4);
  return value;
}

inline u32 ballot(const char* name, u32 mask, bool predicate) {
  const u32 words[2] = {mask, predicate};
  u32 result;
  collective<2, 1>(name, vote, words, &result);
  return result;
}

template <class T>
inline T aligned_load(const void* from) {
  if ((size_t)from % alignof(T)) emulator_fail("a load at an address not aligned to its size");
  return *(const T*)from;
}

template <class T>
inline void aligned_store(void* to, T value) {
  if ((size_t)to % alignof(T)) emulator_fail("a store at an address not aligned to its size");
  *(T*)to = value;
}

// A kernel's parameters are 64-bit pointers only.
template <class... P>
constexpr int parameters(void (*)(P...)) { return sizeof...(P); }
template <int... I>
struct Positions {};
template <int N, int... I>
struct Count : Count<N - 1, N - 1, I...> {};
template <int... I>
struct Count<0, I...> { typedef Positions<I...> Type; };
template <class... P, int... I>
inline void call(void (*kernel)(P...), const u64* given, Positions<I...>) {
  kernel((P)given[I]...);
}
template <class... P>
inline void call(void (*kernel)(P...), const u64* given) {
  call(kernel, given, typename Count<sizeof...(P)>::Type());
}

}  // namespace emulator

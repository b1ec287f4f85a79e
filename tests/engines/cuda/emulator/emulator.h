// What a kernel sees of CUDA when g++ compiles it: one fiber for each CUDA thread, run by runtime.cpp.
//
// It stands in for the device half of device.cuh (same eq_ names) and for the CUDA intrinsics that
// kernels use. Light on purpose, no standard library: every kernel of a test compiles it anew.
#pragma once
#include "core.h"

// At the end of the kernel's source: what the machine calls.
#define EQ_EXPORT(kernel)                                                              \
  extern "C" void emulator_entry(const u64* given) { emulator::call(&kernel, given); } \
  extern "C" int emulator_parameters() { return emulator::parameters(&kernel); }

#define __device__
#define __host__
#define __global__
#define __constant__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __restrict__ __restrict
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define threadIdx (emulator::emulator_thread->index)
#define blockIdx (emulator::emulator_block->index)
#define blockDim (emulator::emulator_block->threads)
#define gridDim (emulator::emulator_block->grid)
#define warpSize 32

#define EQ_DEV static inline
#define EQ_KERNEL(threads, blocks) extern "C"
#define EQ_SMEM(name, bytes) char* name = emulator::emulator_shared(__COUNTER__, bytes)
#define EQ_DYNAMIC_SMEM(name) char* name = emulator::emulator_dynamic_shared()

#include "intrinsics.h"

// What device.cuh says of a GPU.
static inline int4 eq_ldg4(const void* p) { return emulator::aligned_load<int4>(p); }
static inline int2 eq_ldg2(const void* p) { return emulator::aligned_load<int2>(p); }
static inline int eq_ldg1(const void* p) { return emulator::aligned_load<int>(p); }
static inline int eq_ldg_i8(const void* p) { return *(const i8*)p; }
static inline void eq_st4(void* p, int4 v) { emulator::aligned_store(p, v); }
static inline void eq_st2(void* p, int2 v) { emulator::aligned_store(p, v); }
static inline void eq_st1(void* p, int v) { emulator::aligned_store(p, v); }

static inline int eq_dp4a(int a, int b, int c) { return __dp4a(a, b, c); }
static inline int eq_multiply_add_pairs(int a, int b, int c) {
  return c + (int)(short)a * (int)(short)b + (a >> 16) * (b >> 16);
}
static inline u32 eq_prmt(u32 a, u32 b, u32 selector) {
  const u32 picked = __byte_perm(a, b, selector);
  u32 result = 0;
  for (int i = 0; i < 4; i++) {
    const u32 byte = (picked >> (8 * i)) & 255;
    const bool is_sign = selector >> (4 * i) & 8;
    result |= (is_sign ? (byte & 128 ? 255 : 0) : byte) << (8 * i);
  }
  return result;
}
static inline u32 eq_pack2_saturated(int low, int high, u32 upper) {
  return (upper << 16) | ((max(-128, min(127, high)) & 255) << 8) | (max(-128, min(127, low)) & 255);
}
static inline int eq_shfl_xor(int v, int mask) { return __shfl_xor_sync(~0u, v, mask); }
static inline void eq_syncwarp() { __syncwarp(); }
static inline float eq_bits_float(int v) { return __int_as_float(v); }
static inline int eq_float_bits(float v) { return __float_as_int(v); }

static inline int eq_atomic_add(int* p, int v) { return atomicAdd(p, v); }
static inline void eq_threadfence() { __threadfence(); }
static inline int eq_load_shared_by_blocks(const int* p) {
  return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}
static inline void eq_store_shared_by_blocks(int* p, int v) {
  __atomic_store_n(p, v, __ATOMIC_SEQ_CST);
}

template <int Bytes_, bool InL1_ = false>
static inline void eq_cp_async(void* to, const void* from) {
  emulator::emulator_copy(to, from, Bytes_, Bytes_);
}
static inline void eq_cp_commit() { emulator::emulator_copy_commit(); }
template <int Left_>
static inline void eq_cp_wait() {
  emulator::emulator_copy_wait(Left_);
}

static inline void eq_ldmatrix_x4(u32 (&r)[4], const void* row) {
  emulator::collective<2, 4>("ldmatrix.x4", emulator::load_matrix, &row, r);
}
static inline void eq_mma_16832(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  const u32 words[10] = {a[0], a[1],      a[2],      a[3],      b0,
                         b1,   (u32)c[0], (u32)c[1], (u32)c[2], (u32)c[3]};
  emulator::collective<10, 4>("mma.m16n8k32", emulator::multiply_16832, words, c);
}
static inline void eq_mma_8816(int& c0, int& c1, u32 a, u32 b) {
  const u32 words[4] = {a, b, (u32)c0, (u32)c1};
  int sums[2];
  emulator::collective<4, 2>("mma.m8n8k16", emulator::multiply_8816, words, sums);
  c0 = sums[0];
  c1 = sums[1];
}

#include "wmma.h"

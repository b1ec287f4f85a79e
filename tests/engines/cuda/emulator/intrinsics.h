// CUDA's intrinsics and math functions for g++: the same IEEE operations, the same saturation.
#pragma once

template <class T>
static inline T min(T a, T b) { return b < a ? b : a; }
template <class T>
static inline T max(T a, T b) { return a < b ? b : a; }
static inline int abs(int a) { return a < 0 ? (int)(0u - (u32)a) : a; }
static inline float fmaxf(float a, float b) { return __builtin_fmaxf(a, b); }
static inline float fminf(float a, float b) { return __builtin_fminf(a, b); }
static inline float fabsf(float a) { return __builtin_fabsf(a); }
static inline float rintf(float a) { return __builtin_rintf(a); }
static inline float floorf(float a) { return __builtin_floorf(a); }
static inline float truncf(float a) { return __builtin_truncf(a); }

static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline float fmaf(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline float __int2float_rn(int a) { return (float)a; }
static inline float __uint2float_rn(u32 a) { return (float)a; }

static inline int emulator_saturate(float rounded) {  // cvt: NaN is 0, beyond int32 its end
  if (rounded != rounded) return 0;
  if (rounded >= 2147483648.0f) return 2147483647;
  if (rounded < -2147483648.0f) return -2147483647 - 1;
  return (int)rounded;
}
static inline int __float2int_rn(float a) { return emulator_saturate(__builtin_rintf(a)); }
static inline int __float2int_rz(float a) { return emulator_saturate(__builtin_truncf(a)); }
static inline int __float2int_rd(float a) { return emulator_saturate(__builtin_floorf(a)); }
static inline int __float2int_ru(float a) { return emulator_saturate(__builtin_ceilf(a)); }

template <class To, class From>
static inline To emulator_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "");
  To to;
  __builtin_memcpy(&to, &from, sizeof(to));
  return to;
}
static inline int __float_as_int(float a) { return emulator_bits<int>(a); }
static inline u32 __float_as_uint(float a) { return emulator_bits<u32>(a); }
static inline float __int_as_float(int a) { return emulator_bits<float>(a); }
static inline float __uint_as_float(u32 a) { return emulator_bits<float>(a); }

static inline int __mulhi(int a, int b) { return (int)(((i64)a * b) >> 32); }
static inline u32 __umulhi(u32 a, u32 b) { return (u32)(((u64)a * b) >> 32); }
static inline int __clz(int a) { return a ? __builtin_clz((u32)a) : 32; }
static inline int __popc(u32 a) { return __builtin_popcount(a); }
static inline int __ffs(int a) { return __builtin_ffs(a); }
static inline u32 __funnelshift_r(u32 low, u32 high, u32 by) {
  return (u32)((((u64)high << 32) | low) >> (by & 31));
}
static inline u32 __funnelshift_l(u32 low, u32 high, u32 by) {
  return (u32)(((((u64)high << 32) | low) << (by & 31)) >> 32);
}
static inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; i++) c = (int)((u32)c + (u32)((int)(i8)(a >> (8 * i)) * (int)(i8)(b >> (8 * i))));
  return c;
}
static inline u32 __byte_perm(u32 a, u32 b, u32 selector) {
  const u64 bytes = ((u64)b << 32) | a;
  u32 result = 0;
  for (int i = 0; i < 4; i++) {
    const u32 pick = (selector >> (4 * i)) & 7;  // the fourth bit is left out, unlike prmt's
    result |= ((u32)(bytes >> (8 * pick)) & 255) << (8 * i);
  }
  return result;
}

static inline char2 make_char2(i8 x, i8 y) { return {x, y}; }
static inline char4 make_char4(i8 x, i8 y, i8 z, i8 w) { return {x, y, z, w}; }
static inline short2 make_short2(short x, short y) { return {x, y}; }
static inline int2 make_int2(int x, int y) { return {x, y}; }
static inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
static inline uint2 make_uint2(u32 x, u32 y) { return {x, y}; }
static inline uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

template <class T>
static inline T __ldg(const T* from) { return emulator::aligned_load<T>(from); }

#define __syncthreads() emulator::emulator_barrier()
static inline int __syncthreads_or(int value) { return emulator::emulator_barrier_sum(value != 0) != 0; }
static inline int __syncthreads_and(int value) {
  return emulator::emulator_barrier_sum(value == 0) == 0;
}
static inline int __syncthreads_count(int value) {
  return emulator::emulator_barrier_sum(value != 0);
}
static inline void __syncwarp(u32 = ~0u) { emulator::emulator_warp("__syncwarp", nullptr); }
static inline void __threadfence() { emulator::emulator_interleave(); }
static inline void __threadfence_block() { emulator::emulator_interleave(); }

template <class T>
static inline T __shfl_xor_sync(u32, T value, int mask) {
  return emulator::shuffle("shfl.bfly", value, emulator::emulator_thread->lane ^ mask);
}
template <class T>
static inline T __shfl_down_sync(u32, T value, u32 by) {
  return emulator::shuffle("shfl.down", value, emulator::emulator_thread->lane + by);
}
template <class T>
static inline T __shfl_up_sync(u32, T value, u32 by) {
  return emulator::shuffle("shfl.up", value, emulator::emulator_thread->lane - by);
}
template <class T>
static inline T __shfl_sync(u32, T value, int lane) {
  return emulator::shuffle("shfl.idx", value, lane & 31);
}
static inline u32 __ballot_sync(u32 mask, int yes) { return emulator::ballot("vote", mask, yes); }
static inline int __any_sync(u32 mask, int yes) { return emulator::ballot("vote", mask, yes) != 0; }
static inline int __all_sync(u32 mask, int yes) { return emulator::ballot("vote", mask, !yes) == 0; }

template <class T>
static inline T emulator_atomic_address(T* at) {
  emulator::emulator_interleave();
  return emulator::aligned_load<T>(at);
}
template <class T, class Change>
static inline T emulator_atomic(T* at, Change change) {
  T old = emulator_atomic_address(at);
  while (true) {
    T wanted = change(old);
    if (__atomic_compare_exchange_n(at, &old, wanted, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) break;
  }
  return old;
}
static inline int atomicAdd(int* at, int by) {
  return emulator_atomic(at, [=](int old) { return (int)((u32)old + (u32)by); });
}
static inline u32 atomicAdd(u32* at, u32 by) { return emulator_atomic(at, [=](u32 old) { return old + by; }); }
template <class T>
static inline T atomicMax(T* at, T by) { return emulator_atomic(at, [=](T old) { return max(old, by); }); }
template <class T>
static inline T atomicMin(T* at, T by) { return emulator_atomic(at, [=](T old) { return min(old, by); }); }
template <class T>
static inline T atomicOr(T* at, T by) { return emulator_atomic(at, [=](T old) { return (T)(old | by); }); }
template <class T>
static inline T atomicExch(T* at, T by) { return emulator_atomic(at, [=](T) { return by; }); }
template <class T>
static inline T atomicCAS(T* at, T expected, T by) {
  return emulator_atomic(at, [=](T old) { return old == expected ? by : old; });
}
static inline u32 atomicInc(u32* at, u32 limit) {
  return emulator_atomic(at, [=](u32 old) { return old >= limit ? 0 : old + 1; });
}

// The device layer under every kernel: what differs between a GPU and the g++ emulation of one, and
// the arithmetic that kernels share. A kernel's source is its constants (#define EQ_<NAME>), this
// file and its template, in one text that includes nothing else; NVRTC and g++ compile the same.
//
// The emulator defines, under the same names, everything of the first part that a GPU provides.
#ifdef EQ_EMULATED
#include "emulator.h"
#else

typedef signed char i8;
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define EQ_DEV __device__ __forceinline__
#define EQ_KERNEL(threads, blocks) extern "C" __global__ __launch_bounds__(threads, blocks)
#define EQ_EXPORT(kernel)  // the emulator's launcher of it
#define EQ_SMEM(name, bytes) __shared__ __align__(128) char name[bytes]
#define EQ_DYNAMIC_SMEM(name) extern __shared__ __align__(128) char name[]

// Loads of 16, 8, 4 bytes and 1 that no thread of the launch writes, and plain stores; each at a
// multiple of its size.
EQ_DEV int4 eq_ldg4(const void* p) { return __ldg((const int4*)p); }
EQ_DEV int2 eq_ldg2(const void* p) { return __ldg((const int2*)p); }
EQ_DEV int eq_ldg1(const void* p) { return __ldg((const int*)p); }
EQ_DEV int eq_ldg_i8(const void* p) { return __ldg((const i8*)p); }
EQ_DEV void eq_st4(void* p, int4 v) { *(int4*)p = v; }
EQ_DEV void eq_st2(void* p, int2 v) { *(int2*)p = v; }
EQ_DEV void eq_st1(void* p, int v) { *(int*)p = v; }

// d = c + sum of the four products of signed bytes. The intrinsic is an unresolved extern under
// NVRTC 11.8, hence the asm; before sm_61 (and on sm_62, silently) there is no such instruction.
EQ_DEV int eq_dp4a(int a, int b, int c) {
#if __CUDA_ARCH__ >= 610
  int d;
  asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
#else
  c += (int)(i8)a * (int)(i8)b;
  c += (int)(i8)(a >> 8) * (int)(i8)(b >> 8);
  c += (int)(i8)(a >> 16) * (int)(i8)(b >> 16);
  return c + (a >> 24) * (b >> 24);
#endif
}

// c + the products of the halves of a and b, as int16: two XMAD before sm_70. (In C the compiler shifts
// the upper halves down first.)
EQ_DEV int eq_multiply_add_pairs(int a, int b, int c) {
  short a0, a1, b0, b1;
  asm("mov.b32 {%0, %1}, %2;" : "=h"(a0), "=h"(a1) : "r"(a));
  asm("mov.b32 {%0, %1}, %2;" : "=h"(b0), "=h"(b1) : "r"(b));
  asm("mad.wide.s16 %0, %1, %2, %0;" : "+r"(c) : "h"(a0), "h"(b0));
  asm("mad.wide.s16 %0, %1, %2, %0;" : "+r"(c) : "h"(a1), "h"(b1));
  return c;
}

// Four bytes picked from the eight of a (0..3) and b (4..7), one a nibble of the selector; 8 more for
// that byte's sign in all bits, which the intrinsic leaves out, hence the asm.
EQ_DEV u32 eq_prmt(u32 a, u32 b, u32 selector) {
  u32 d;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(selector));
  return d;
}

// Two ints as int8, saturated, beneath the lower half of a third word.
EQ_DEV u32 eq_pack2_saturated(int low, int high, u32 upper) {
#if __CUDA_ARCH__ >= 720
  u32 d;
  asm("cvt.pack.sat.s8.s32.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(high), "r"(low), "r"(upper));
  return d;
#else
  high = min(max(high, -128), 127), low = min(max(low, -128), 127);
  return (upper << 16) | ((high & 255) << 8) | (low & 255);
#endif
}

// Exchanges within a whole, converged warp.
EQ_DEV int eq_shfl_xor(int v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
EQ_DEV void eq_syncwarp() { __syncwarp(); }

// Between blocks: an addition that returns the old value, and the fence before a flag.
EQ_DEV int eq_atomic_add(int* p, int v) { return atomicAdd(p, v); }
EQ_DEV void eq_threadfence() { __threadfence(); }
// A load and a store that see what other blocks wrote (not through L1).
EQ_DEV int eq_load_shared_by_blocks(const int* p) { return __ldcg(p); }
EQ_DEV void eq_store_shared_by_blocks(int* p, int v) { __stcg(p, v); }

EQ_DEV int eq_float_bits(float v) { return __float_as_int(v); }
EQ_DEV float eq_bits_float(int v) { return __int_as_float(v); }

#if __CUDA_ARCH__ >= 750
EQ_DEV u32 eq_saddr(const void* p) { return (u32)__cvta_generic_to_shared(p); }

// Four 8x8 tiles of 16-bit elements (8x16 of bytes); lane l gives the row l % 8 of the tile l / 8
// and receives 4 bytes of the row l / 4 of each.
EQ_DEV void eq_ldmatrix_x4(u32 (&r)[4], const void* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(eq_saddr(p)));
}

// c[8x8] += a[8x16] * b[16x8], int8 -> int32.
EQ_DEV void eq_mma_8816(int& c0, int& c1, u32 a, u32 b) {
  asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};\n"
               : "+r"(c0), "+r"(c1)
               : "r"(a), "r"(b));
}
#endif

#if __CUDA_ARCH__ >= 800
// 4, 8 or 16 bytes of global memory into shared, done at the wait for the group that they are
// committed in; both at a multiple of their size. 16 bytes pass L1 by unless they are read again.
template <int Bytes, bool InL1 = false>
EQ_DEV void eq_cp_async(void* to, const void* from) {
  if (Bytes == 16 && !InL1)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(eq_saddr(to)), "l"(from));
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;\n" ::"r"(eq_saddr(to)), "l"(from),
                 "n"(Bytes));
}
EQ_DEV void eq_cp_commit() { asm volatile("cp.async.commit_group;\n" ::); }
template <int Pending>
EQ_DEV void eq_cp_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(Pending));
}

// c[16x8] += a[16x32] * b[32x8], int8 -> int32.
EQ_DEV void eq_mma_16832(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

#if __CUDA_ARCH__ >= 720
// c[16x16] += a[16x16] * b[16x16], int8 -> int32. What a lane holds of each is the hardware's own:
// fragments are only loaded from shared memory (a by rows, b by columns, `pitch` bytes apart, both
// at multiples of 16 bytes) and stored into it (c by rows, `pitch` ints apart).
EQ_DEV void eq_wmma_load_a(u32 (&a)[2], const void* p, int pitch) {
  asm volatile("wmma.load.a.sync.aligned.row.m16n16k16.s8 {%0,%1}, [%2], %3;\n"
               : "=r"(a[0]), "=r"(a[1])
               : "l"(p), "r"(pitch)
               : "memory");
}
EQ_DEV void eq_wmma_load_b(u32 (&b)[2], const void* p, int pitch) {
  asm volatile("wmma.load.b.sync.aligned.col.m16n16k16.s8 {%0,%1}, [%2], %3;\n"
               : "=r"(b[0]), "=r"(b[1])
               : "l"(p), "r"(pitch)
               : "memory");
}
EQ_DEV void eq_wmma_mma(int (&c)[8], const u32 (&a)[2], const u32 (&b)[2]) {
  asm volatile(
      "wmma.mma.sync.aligned.row.col.m16n16k16.s32.s8.s8.s32 {%0,%1,%2,%3,%4,%5,%6,%7}, "
      "{%8,%9}, {%10,%11}, {%0,%1,%2,%3,%4,%5,%6,%7};\n"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3]), "+r"(c[4]), "+r"(c[5]), "+r"(c[6]),
        "+r"(c[7])
      : "r"(a[0]), "r"(a[1]), "r"(b[0]), "r"(b[1]));
}
EQ_DEV void eq_wmma_store_c(int* p, const int (&c)[8], int pitch) {
  asm volatile(
      "wmma.store.d.sync.aligned.row.m16n16k16.s32 [%0], {%1,%2,%3,%4,%5,%6,%7,%8}, %9;\n" ::"l"(p),
      "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3]), "r"(c[4]), "r"(c[5]), "r"(c[6]), "r"(c[7]),
      "r"(pitch)
      : "memory");
}
#endif
#endif  // EQ_EMULATED

// A kernel's one buffer of shared memory: asked for at the launch where it is over 48 KiB.
#if defined(EQ_IS_DYNAMIC) && EQ_IS_DYNAMIC
#define EQ_BLOCK_SMEM(name, bytes) EQ_DYNAMIC_SMEM(name)
#else
#define EQ_BLOCK_SMEM(name, bytes) EQ_SMEM(name, bytes)
#endif

// ---- bytes ----

EQ_DEV u32 eq_pack4(int a, int b, int c, int d) {
  return (a & 255) | ((b & 255) << 8) | ((c & 255) << 16) | ((u32)d << 24);
}
// A byte with its sign: the sign of byte i is what 8 + i selects.
template <int Index>
EQ_DEV int eq_byte(u32 v) {
  const u32 selectors[4] = {0x8880, 0x9991, 0xAAA2, 0xBBB3};
  return (int)eq_prmt(v, 0, selectors[Index]);
}
EQ_DEV int eq_splat4(int v) { return (int)((u32)(v & 255) * 0x01010101u); }
EQ_DEV int4 eq_splat16(int v) {
  int word = eq_splat4(v);
  int4 all = {word, word, word, word};
  return all;
}

// ---- arithmetic, bit for bit as XNNPACK's ----

// rint of |v| < 2^22 to an int. The sum with 1.5 * 2^23 is rounded to even at its units, and its low
// bits are the result: one addition at full rate for a conversion at a quarter of it.
EQ_DEV int eq_rint(float v) { return eq_float_bits(__fadd_rn(v, 12582912.0f)) - 0x4B400000; }

EQ_DEV int eq_requant(int acc, float scale, int zero_point, int low, int high) {
  float v = __fmul_rn(__int2float_rn(acc), scale);
  v = fminf(fmaxf(v, (float)(low - zero_point)), (float)(high - zero_point));
  return eq_rint(v) + zero_point;
}

// the MEAN of XNNPACK: both zero points are in the offset, which is added before the rounding
EQ_DEV int eq_scaled(int total, float scale, float offset, int low, int high) {
  float v = __fadd_rn(__fmul_rn(__int2float_rn(total), scale), offset);
  return eq_rint(fminf(fmaxf(v, (float)low), (float)high));
}

EQ_DEV int eq_clamp(int v, int low, int high) { return min(max(v, low), high); }


// ---- kernels that work value by value: 1, 4, 8 or 16 bytes at once, places in nests of loops ----

EQ_DEV void eq_load_words(u32 (&words)[1], const void* p) { words[0] = eq_ldg1(p); }
EQ_DEV void eq_load_words(u32 (&words)[2], const void* p) {
  const int2 v = eq_ldg2(p);
  words[0] = v.x, words[1] = v.y;
}
EQ_DEV void eq_load_words(u32 (&words)[4], const void* p) {
  const int4 v = eq_ldg4(p);
  words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
}
EQ_DEV void eq_store_words(void* p, const u32 (&words)[1]) { eq_st1(p, words[0]); }
EQ_DEV void eq_store_words(void* p, const u32 (&words)[2]) {
  const int2 v = {(int)words[0], (int)words[1]};
  eq_st2(p, v);
}
EQ_DEV void eq_store_words(void* p, const u32 (&words)[4]) {
  const int4 v = {(int)words[0], (int)words[1], (int)words[2], (int)words[3]};
  eq_st4(p, v);
}

// Width bytes, i8 or u8, at a multiple of Width: widened to ints, and their low bytes stored.
template <typename Byte>
EQ_DEV void eq_load(int (&v)[1], const Byte* p) {
  v[0] = (Byte)eq_ldg_i8(p);
}
template <typename Byte, int Width>
EQ_DEV void eq_load(int (&v)[Width], const Byte* p) {
  u32 words[Width / 4];
  eq_load_words(words, p);
#pragma unroll
  for (int i = 0; i < Width; i++) v[i] = (Byte)(words[i / 4] >> (8 * (i % 4)));
}
template <typename Byte>
EQ_DEV void eq_store(Byte* p, const int (&v)[1]) {
  *p = (Byte)v[0];
}
template <typename Byte, int Width>
EQ_DEV void eq_store(Byte* p, const int (&v)[Width]) {
  u32 words[Width / 4];
#pragma unroll
  for (int i = 0; i < Width; i += 4) words[i / 4] = eq_pack4(v[i], v[i + 1], v[i + 2], v[i + 3]);
  eq_store_words(p, words);
}

// An operand of a broadcast: one byte for all where it does not move along the innermost loop.
template <bool Spread, typename Byte, int Width>
EQ_DEV void eq_load_operand(int (&v)[Width], const Byte* p) {
  if (Spread) {
    const int one = (Byte)eq_ldg_i8(p);
#pragma unroll
    for (int i = 0; i < Width; i++) v[i] = one;
  } else {
    eq_load(v, p);
  }
}

// Where turn `index` of a nest of loops is, outermost first, in elements of a value that these loops
// walk by these strides. Both lists are known at compile time.
template <int Rank>
EQ_DEV int eq_offset(int index, const int (&sizes)[Rank], const int (&strides)[Rank]) {
  int offset = 0;
#pragma unroll
  for (int loop = Rank - 1; loop > 0; loop--) {
    offset += index % sizes[loop] * strides[loop];
    index /= sizes[loop];
  }
  return offset + index * strides[0];
}

// total / count, rounded to the nearest, a half away from zero.
EQ_DEV int eq_divide_half_away(int total, int count) {
  const int magnitude = (int)((u32)(abs(total) + count / 2) / (u32)count);
  return total < 0 ? -magnitude : magnitude;
}

#ifdef EQ_EPILOGUE
#include "epilogue.cuh"
#endif

// v >= 0, rounded to the nearest, a half up: C's roundf.
EQ_DEV int eq_round_half_up(float v) {
  const int whole = __float2int_rz(v);
  return whole + (__fsub_rn(v, __int2float_rn(whole)) >= 0.5f ? 1 : 0);
}

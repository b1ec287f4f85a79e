// The end of a classifier in one kernel: the average of all pixels (REDUCE: 1 as MEAN, 2 as
// AVERAGE_POOL_2D), a fully-connected layer, softmax (SOFTMAX), dequantization (DEQUANTIZE).
//
// x [ROWS, COUNT, K] int8, pixels X_PITCH apart, weights [O in whole blocks, K_PITCH] int8, K_PITCH
// the next multiple of 16 (zeros beyond K), logits [ROWS, O] int8 between the layers where several
// blocks share a row, y [ROWS, O] int8 or float32, rows Y_PITCH apart; terms [256] float32 as softmax
// reads them; counters [ROWS] in scratch.
//
// Every block averages all of its row's pixels by itself, which costs less than to wait for another
// kernel, and computes BLOCK_OUTPUTS outputs. The last one of a row to finish does the softmax, and
// leaves the counter at zero.

#define EQ_ROW_WORDS ((EQ_K + 3) / 4)
#define EQ_GROUPS (EQ_THREADS / EQ_PARTS)
#define EQ_BLOCK_OUTPUTS (EQ_GROUPS * EQ_OUTPUTS * EQ_TURNS)
#define EQ_BLOCKS ((EQ_O + EQ_BLOCK_OUTPUTS - 1) / EQ_BLOCK_OUTPUTS)

#if EQ_DEQUANTIZE
typedef float Result;
EQ_DEV Result tail_result(int v) {
  return __fmul_rn(__int2float_rn(v - EQ_DEQUANTIZE_ZERO_POINT), EQ_DEQUANTIZE_SCALE);
}
#else
typedef i8 Result;
EQ_DEV Result tail_result(int v) { return (i8)v; }
#endif

// Four channels of a pixel from c on.
EQ_DEV int tail_load(const i8* p, int c) {
#if EQ_LOAD_BYTES >= 4
  return eq_ldg1(p + c);
#else
  u32 word = 0;
#pragma unroll
  for (int v = 0; v < 4; v++)
    if (c + v < EQ_K) word |= (u32)(eq_ldg_i8(p + c + v) & 255) << (8 * v);
  return (int)word;
#endif
}

#if EQ_REDUCE
EQ_DEV int tail_average(int total) {
#if EQ_REDUCE == 1
  return eq_scaled(total, EQ_AVERAGE_SCALE, EQ_AVERAGE_OFFSET, EQ_AVERAGE_LOW, EQ_AVERAGE_HIGH);
#else
  return eq_clamp(eq_divide_half_away(total, EQ_COUNT), EQ_AVERAGE_LOW, EQ_AVERAGE_HIGH);
#endif
}

// SPLIT threads share the pixels of four channels.
EQ_DEV void tail_row(i8* row, const i8* x) {
  EQ_SMEM(memory, EQ_SPLIT * EQ_ROW_WORDS * 16);
  int* totals = (int*)memory;
  for (int e = threadIdx.x; e < EQ_SPLIT * EQ_ROW_WORDS; e += EQ_THREADS) {
    const int c = e % EQ_ROW_WORDS * 4;
    int4 total = {0, 0, 0, 0};
#pragma unroll 8
    for (int pixel = e / EQ_ROW_WORDS; pixel < EQ_COUNT; pixel += EQ_SPLIT) {
      const int word = tail_load(x + pixel * EQ_X_PITCH, c);
      total.x = eq_dp4a(word, 0x00000001, total.x);
      total.y = eq_dp4a(word, 0x00000100, total.y);
      total.z = eq_dp4a(word, 0x00010000, total.z);
      total.w = eq_dp4a(word, 0x01000000, total.w);
    }
    *(int4*)(totals + e * 4) = total;
  }
  __syncthreads();
  for (int c = threadIdx.x; c < EQ_K_PITCH; c += EQ_THREADS) {
    int total = 0;
#pragma unroll
    for (int part = 0; part < EQ_SPLIT; part++)
      total += c < EQ_K ? totals[part * EQ_ROW_WORDS * 4 + c] : 0;
    row[c] = c < EQ_K ? (i8)tail_average(total) : 0;
  }
}
#else
EQ_DEV void tail_row(i8* row, const i8* x) {
  for (int c = threadIdx.x * 4; c < EQ_K_PITCH; c += EQ_THREADS * 4)
    eq_st1(row + c, c < EQ_K ? tail_load(x, c) : 0);
}
#endif

// OUTPUTS outputs from `o` on, PARTS lanes sharing them along K; all lanes get the sums.
EQ_DEV void tail_sum(int (&sums)[EQ_OUTPUTS], const i8* row, const i8* weights, int o) {
#pragma unroll 4
  for (int k = threadIdx.x % EQ_PARTS * 16; k < EQ_K_PITCH; k += EQ_PARTS * 16) {
    const int4 a = *(const int4*)(row + k);
#pragma unroll
    for (int j = 0; j < EQ_OUTPUTS; j++) {
      const int4 b = eq_ldg4(weights + (size_t)(o + j) * EQ_K_PITCH + k);
      sums[j] = eq_dp4a(a.x, b.x, sums[j]);
      sums[j] = eq_dp4a(a.y, b.y, sums[j]);
      sums[j] = eq_dp4a(a.z, b.z, sums[j]);
      sums[j] = eq_dp4a(a.w, b.w, sums[j]);
    }
  }
#pragma unroll
  for (int j = 0; j < EQ_OUTPUTS; j++)
#pragma unroll
    for (int mask = EQ_PARTS / 2; mask; mask >>= 1) sums[j] += eq_shfl_xor(sums[j], mask);
}

#if EQ_SOFTMAX
#include "ordered_sum.cuh"

// As softmax.cu and softmax_pieces.cu: the sum adds float32 in the order of the row.
EQ_DEV void tail_softmax(Result* y, const volatile i8* logits, const float* exponentials) {
  EQ_SMEM(kept_terms, EQ_PLACES * 4);
  EQ_SMEM(kept_maxima, EQ_THREADS * 4);
  EQ_SMEM(kept_inverse, 4);
  float* terms = (float*)kept_terms;
  int* maxima = (int*)kept_maxima;
  float* inverse = (float*)kept_inverse;
  int maximum = -128;
  for (int c = threadIdx.x; c < EQ_O; c += EQ_THREADS) maximum = max(maximum, (int)logits[c]);
  maxima[threadIdx.x] = maximum;
  __syncthreads();
#pragma unroll
  for (int half = EQ_THREADS / 2; half; half /= 2) {
    if (threadIdx.x < half)
      maxima[threadIdx.x] = max(maxima[threadIdx.x], maxima[threadIdx.x + half]);
    __syncthreads();
  }
  maximum = maxima[0];
  for (int c = threadIdx.x; c < EQ_PIECES * EQ_PIECE; c += EQ_THREADS)
    terms[eq_place(c)] = c < EQ_O ? exponentials[maximum - logits[c]] : 0.0f;
  __syncthreads();
  if (threadIdx.x < 32) {
    const float sum = eq_ordered_sum(terms, threadIdx.x);
    if (threadIdx.x == 0) *inverse = __fdiv_rn(1.0f, __fmul_rn(sum, EQ_SOFTMAX_SCALE));
  }
  __syncthreads();
  for (int c = threadIdx.x; c < EQ_O; c += EQ_THREADS) {
    const float share = __fmul_rn(terms[eq_place(c)], *inverse);
    const int v = eq_round_half_up(share) + EQ_SOFTMAX_ZERO_POINT;
    y[c] = tail_result(eq_clamp(v, -128, 127));
  }
}

// Says whether this block is the last of its row, whose logits are then all written.
EQ_DEV bool tail_is_last(int* counter) {
#if EQ_BLOCKS > 1
  EQ_SMEM(kept_arrived, 4);
  int* arrived = (int*)kept_arrived;
  eq_threadfence();
  __syncthreads();
  if (threadIdx.x == 0) *arrived = eq_atomic_add(counter, 1);
  __syncthreads();
  if (*arrived != EQ_BLOCKS - 1) return false;
  if (threadIdx.x == 0) eq_store_shared_by_blocks(counter, 0);
  eq_threadfence();
#else
  __syncthreads();
#endif
  return true;
}
#endif

EQ_KERNEL(EQ_THREADS, 1)
void tail(const i8* __restrict__ x, const i8* __restrict__ weights, const int* __restrict__ bias,
          const float* __restrict__ scale, const i8* __restrict__ table, i8* logits,
          const float* __restrict__ terms, int* counters, Result* y) {
  EQ_SMEM(row, EQ_K_PITCH);
  x += blockIdx.y * (EQ_COUNT * EQ_X_PITCH);
  y += blockIdx.y * EQ_Y_PITCH;
#if EQ_SOFTMAX
  EQ_SMEM(kept_table, 1024);
  float* exponentials = (float*)kept_table;
  for (int i = threadIdx.x; i < 256; i += EQ_THREADS) exponentials[i] = terms[i];
#if EQ_BLOCKS > 1
  logits += blockIdx.y * EQ_LOGITS_PITCH;
#else
  EQ_SMEM(kept_logits, EQ_O);
  logits = (i8*)kept_logits;
#endif
#endif
  tail_row((i8*)row, x);
  __syncthreads();
#pragma unroll 1
  for (int turn = 0; turn < EQ_TURNS; turn++) {
    const int group = threadIdx.x / EQ_PARTS + turn * EQ_GROUPS;
    const int o = blockIdx.x * EQ_BLOCK_OUTPUTS + group * EQ_OUTPUTS;
    int sums[EQ_OUTPUTS] = {};
    tail_sum(sums, (const i8*)row, weights, o);
#pragma unroll
    for (int j = 0; j < EQ_OUTPUTS; j++) {
      const int c = o + j;
      if (c >= EQ_O || threadIdx.x % EQ_PARTS != j % EQ_PARTS) continue;
      const int v = eq_epilogue(sums[j] + bias[c], scale[c], 0, table);
#if EQ_SOFTMAX
      logits[c] = (i8)v;
#else
      y[c] = tail_result(v);
#endif
    }
  }
#if EQ_SOFTMAX
  if (tail_is_last(counters + blockIdx.y)) tail_softmax(y, logits, exponentials);
#endif
}
EQ_EXPORT(tail)

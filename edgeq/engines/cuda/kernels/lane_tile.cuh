// A block's tile of BM pixels x BN channels without tensor cores: each thread sums TM pixels x TN
// channels (pixels side by side; channels in fours, BN * 4 / TN apart), BK bytes of K a step, from
// two stages in shared memory that are filled through registers.
//
// The kernel that includes this has said what one row of K is in shared memory: eq_Element, of
// EQ_ROW_BYTES bytes of K; eq_Partial, what products are added to; eq_spread, which writes a word of
// four bytes of K; eq_multiply_add; eq_whole, a partial sum as an int; and FLUSH_STEPS, how many
// steps a partial sum holds.
//
// Weights: [Y_C / BN][STEPS][BK / 4][BN] words of four bytes of K, zero-padded.

#define EQ_ROWS (EQ_BK / EQ_ROW_BYTES)
#define EQ_A_PITCH (EQ_BM + 4)
#define EQ_A_ELEMENTS (EQ_ROWS * EQ_A_PITCH)
#define EQ_STAGE_BYTES ((EQ_A_ELEMENTS + EQ_ROWS * EQ_BN) * 4)
#define EQ_ACROSS (EQ_BN / EQ_TN)  // threads side by side along the channels

struct eq_Sums {
  int whole[EQ_TM * EQ_TN];
  eq_Partial partial[EQ_TM][EQ_TN];  // not yet added to the whole ones
};

#include "staged.cuh"

EQ_DEV void eq_stage(char* to_stage, const eq_Staged& staged) {
  eq_Element* stage = (eq_Element*)to_stage;
  const int row = threadIdx.x / EQ_STEP_GROUPS;
  const int byte = threadIdx.x % EQ_STEP_GROUPS * EQ_UNIT;
#pragma unroll
  for (int i = 0; i < EQ_A_LOADS; i++)
#pragma unroll
    for (int v = 0; v < EQ_UNIT / 4; v++)
      if (eq_has_row(i))
        eq_spread(stage + (byte + v * 4) / EQ_ROW_BYTES * EQ_A_PITCH + row + i * EQ_A_ROWS,
                  EQ_A_PITCH, staged.a[i][v]);
#pragma unroll
  for (int i = 0; i < EQ_B_LOADS; i++) {
    const int first = (threadIdx.x + i * EQ_THREADS) * 4;
    eq_Element* to = stage + EQ_A_ELEMENTS + first / EQ_BN * (4 / EQ_ROW_BYTES) * EQ_BN + first % EQ_BN;
    if (!eq_has_chunk(i)) continue;
    eq_spread(to, EQ_BN, staged.b[i].x);
    eq_spread(to + 1, EQ_BN, staged.b[i].y);
    eq_spread(to + 2, EQ_BN, staged.b[i].z);
    eq_spread(to + 3, EQ_BN, staged.b[i].w);
  }
}

// Adds partial sums to the whole ones, and begins anew.
EQ_DEV void eq_flush(eq_Sums& sums) {
#pragma unroll
  for (int i = 0; i < EQ_TM; i++)
#pragma unroll
    for (int j = 0; j < EQ_TN; j++) {
      sums.whole[i * EQ_TN + j] += eq_whole(sums.partial[i][j]);
      sums.partial[i][j] = 0;
    }
}

EQ_DEV void eq_multiply(eq_Sums& sums, const char* from_stage, int step) {
  const eq_Element* stage = (const eq_Element*)from_stage;
  const eq_Element* a_row = stage + threadIdx.x / EQ_ACROSS * EQ_TM;
  const eq_Element* b_row = stage + EQ_A_ELEMENTS + threadIdx.x % EQ_ACROSS * 4;
#pragma unroll
  for (int r = 0; r < EQ_ROWS; r++) {
    int a[EQ_TM], b[EQ_TN];  // as bits
#pragma unroll
    for (int i = 0; i < EQ_TM; i += 4) {
      const int4 v = *(const int4*)(a_row + r * EQ_A_PITCH + i);
      a[i] = v.x, a[i + 1] = v.y, a[i + 2] = v.z, a[i + 3] = v.w;
    }
#pragma unroll
    for (int j = 0; j < EQ_TN; j += 4) {
      const int4 v = *(const int4*)(b_row + r * EQ_BN + j * EQ_ACROSS);
      b[j] = v.x, b[j + 1] = v.y, b[j + 2] = v.z, b[j + 3] = v.w;
    }
#pragma unroll
    for (int i = 0; i < EQ_TM; i++)
#pragma unroll
      for (int j = 0; j < EQ_TN; j++)
        sums.partial[i][j] = eq_multiply_add(a[i], b[j], sums.partial[i][j]);
  }
  if (EQ_STEPS > EQ_FLUSH_STEPS && step % EQ_FLUSH_STEPS == EQ_FLUSH_STEPS - 1) eq_flush(sums);
}

EQ_DEV void eq_store_sums(i8* __restrict__ y, const int (&sums)[EQ_TM * EQ_TN],
                          const int* __restrict__ bias, const float* __restrict__ scale,
                          const i8* __restrict__ other, const i8* __restrict__ table) {
  const int m = blockIdx.x * EQ_BM + threadIdx.x / EQ_ACROSS * EQ_TM;
#pragma unroll
  for (int j = 0; j < EQ_TN; j += 4) {
    const int c = blockIdx.y * EQ_BN + threadIdx.x % EQ_ACROSS * 4 + j * EQ_ACROSS;
    const int4 biases = eq_biases(bias + c), scales = eq_ldg4(scale + c);
#pragma unroll
    for (int i = 0; i < EQ_TM; i++) {
      const int* own = sums + i * EQ_TN + j;
      const int4 four = {own[0] + biases.x, own[1] + biases.y, own[2] + biases.z, own[3] + biases.w};
      if ((EQ_PIXELS % EQ_BM == 0 || m + i < EQ_PIXELS) && c < EQ_Y_C)
        eq_store_four(y, m + i, c, four, scales, other, table);
    }
  }
}

EQ_DEV void eq_convolve(const i8* __restrict__ x, const i8* __restrict__ weights,
                        const i8* __restrict__ outside, int* __restrict__ scratch,
                        const int* __restrict__ bias, const float* __restrict__ scale,
                        const i8* __restrict__ other, const i8* __restrict__ table,
                        i8* __restrict__ y) {
  EQ_SMEM(shared, 2 * EQ_STAGE_BYTES);
  EQ_SMEM(groups, EQ_TABLE_GROUPS * 8);
  eq_Sums sums;
#pragma unroll
  for (int i = 0; i < EQ_TM * EQ_TN; i++)
    sums.whole[i] = 0, sums.partial[i / EQ_TN][i % EQ_TN] = 0;
  eq_sum(sums, shared, (eq_Group*)groups, x, weights, outside);
  eq_flush(sums);
#if EQ_SPLITS > 1
  if (!eq_join_splits<EQ_TM * EQ_TN>(sums.whole, scratch)) return;
#endif
  eq_store_sums(y, sums.whole, bias, scale, other, table);
}

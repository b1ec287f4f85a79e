// Convolution as an implicit matrix product on the tensor cores of sm_75, which have mma.sync m8n8k16
// and ldmatrix but no cp.async. (It also runs on everything later.)
//
// Operands and tiles as in conv_mma.cu, two stages that are filled through registers.
#include "gather.cuh"
#include "splits.cuh"
#include "mma_tile.cuh"
#include "staged.cuh"

EQ_DEV void eq_stage(char* stage, const eq_Staged& staged) {
  const int row = threadIdx.x / EQ_STEP_GROUPS;
  const int byte = threadIdx.x % EQ_STEP_GROUPS * EQ_UNIT;
#pragma unroll
  for (int i = 0; i < EQ_A_LOADS; i++) {
    int* to = (int*)(stage + eq_swizzled(row + i * EQ_A_ROWS, byte / 16) + byte % 16);
#pragma unroll
    for (int v = 0; v < EQ_UNIT / 4; v++)
      if (eq_has_row(i)) to[v] = staged.a[i][v];
  }
#pragma unroll
  for (int i = 0; i < EQ_B_LOADS; i++)
    if (eq_has_chunk(i))
      eq_st4(stage + EQ_A_BYTES + (threadIdx.x + i * EQ_THREADS) * 16, staged.b[i]);
}

EQ_KERNEL(EQ_THREADS, EQ_MIN_BLOCKS)
void conv_mma_8816(const i8* __restrict__ x, const i8* __restrict__ weights,
                   const i8* __restrict__ outside, int* __restrict__ scratch,
                   const int* __restrict__ bias, const float* __restrict__ scale,
                   const i8* __restrict__ other, const i8* __restrict__ table,
                   i8* __restrict__ y) {
  EQ_BLOCK_SMEM(tile, EQ_SHARED_BYTES);
  float* scales = (float*)(tile + EQ_SCALES_AT);
  for (int c = threadIdx.x; c < EQ_BN; c += EQ_THREADS) scales[c] = scale[blockIdx.y * EQ_BN + c];
  eq_Sums sums;
  eq_begin(sums, bias);
  eq_sum(sums, tile, (eq_Group*)(tile + EQ_GROUPS_AT), x, weights, outside);
#if EQ_SPLITS > 1
  if (!eq_join_splits<EQ_TILES * 4>(sums.of[0], scratch)) return;
#endif
  eq_store_tile(y, tile, sums, scales, other, table);
}
EQ_EXPORT(conv_mma_8816)

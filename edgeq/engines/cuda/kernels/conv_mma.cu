// Convolution as an implicit matrix product on the tensor cores (sm_80 and up): mma.sync m16n8k32
// over tiles of BM pixels x BN channels, BK bytes of K a step, in a pipeline of STAGES copies that
// cp.async makes while earlier ones are multiplied. Small grids split K over blockIdx.z.
//
// x as gather.cuh reads it; weights [Y_C / BN][STEPS][BN rows][BK], zero-padded, already swizzled as
// they lie in shared memory; outside: 16 bytes of x's zero point; bias and scale padded to BN
// channels; y [PIXELS, Y_C], Y_PITCH apart, stored VECTOR channels at a time.
#include "gather.cuh"
#include "mma_tile.cuh"
#include "splits.cuh"

// Begins to copy one group of this thread's rows of x.
EQ_DEV void eq_fetch_x(char* stage, const eq_Window (&windows)[EQ_A_LOADS], eq_Group group,
                       const i8* outside) {
  const int row = threadIdx.x / EQ_STEP_GROUPS;
  const int byte = threadIdx.x % EQ_STEP_GROUPS * EQ_UNIT;
#pragma unroll
  for (int i = 0; i < EQ_A_LOADS; i++) {
    char* to = stage + eq_swizzled(row + i * EQ_A_ROWS, byte / 16) + byte % 16;
    if (eq_has_row(i))
      eq_cp_async<EQ_UNIT, (EQ_KH * EQ_KW > 1)>(to, eq_source(windows[i], group, outside));
  }
}

// Begins to copy this thread's part of the weights' tile.
EQ_DEV void eq_fetch_weights(char* stage, const i8* tile) {
#pragma unroll
  for (int i = 0; i < EQ_B_LOADS; i++) {
    const int chunk = threadIdx.x + i * EQ_THREADS;
    if (eq_has_chunk(i)) eq_cp_async<16>(stage + EQ_A_BYTES + chunk * 16, tile + chunk * 16);
  }
}

EQ_KERNEL(EQ_THREADS, EQ_MIN_BLOCKS)
void conv_mma(const i8* __restrict__ x, const i8* __restrict__ weights,
              const i8* __restrict__ outside, int* __restrict__ scratch,
              const int* __restrict__ bias, const float* __restrict__ scale,
              const i8* __restrict__ other, const i8* __restrict__ table, i8* __restrict__ y) {
  EQ_BLOCK_SMEM(tile, EQ_SHARED_BYTES);
  float* scales = (float*)(tile + EQ_SCALES_AT);
  eq_Group* groups = (eq_Group*)(tile + EQ_GROUPS_AT);
  const int first = EQ_FIRST_STEP, end = EQ_END_STEP;
  const int column = threadIdx.x % EQ_STEP_GROUPS;
  const i8* b = weights + (blockIdx.y * EQ_STEPS + first) * EQ_B_BYTES;

  // The first weights come from DRAM most of the time: they are under way while windows are found.
#pragma unroll
  for (int s = 0; s < EQ_STAGES - 1; s++, b += EQ_B_BYTES)
    if (first + s < end) eq_fetch_weights(tile + s * EQ_STAGE_BYTES, b);
  for (int chunk = threadIdx.x; chunk < EQ_BN / 4; chunk += EQ_THREADS)
    eq_cp_async<16>(scales + chunk * 4, scale + blockIdx.y * EQ_BN + chunk * 4);
  eq_fill_groups(groups);
  eq_Window windows[EQ_A_LOADS];
  eq_find_windows(windows, x);
#pragma unroll
  for (int s = 0; s < EQ_STAGES - 1; s++) {
    if (first + s < end)
      eq_fetch_x(tile + s * EQ_STAGE_BYTES, windows,
                 eq_group_of(groups, (first + s) * EQ_STEP_GROUPS + column), outside);
    eq_cp_commit();
  }

  eq_Sums sums;
  eq_begin(sums, bias);
  int read = 0, write = EQ_STAGES - 1;
#pragma unroll 1
  for (int step = first; step < end; step++, b += EQ_B_BYTES) {
    eq_cp_wait<EQ_STAGES - 2>();
    __syncthreads();
    const int next = step + EQ_STAGES - 1;
    if (next < end) {
      eq_fetch_x(tile + write * EQ_STAGE_BYTES, windows,
                 eq_group_of(groups, next * EQ_STEP_GROUPS + column), outside);
      eq_fetch_weights(tile + write * EQ_STAGE_BYTES, b);
    }
    eq_cp_commit();
    eq_multiply(sums, tile + read * EQ_STAGE_BYTES, step);
    read = read + 1 == EQ_STAGES ? 0 : read + 1;
    write = write + 1 == EQ_STAGES ? 0 : write + 1;
  }
  eq_cp_wait<0>();
  __syncthreads();

#if EQ_SPLITS > 1
  if (!eq_join_splits<EQ_TILES * 4>(sums.of[0], scratch)) return;
#endif
  eq_store_tile(y, tile, sums, scales, other, table);
}
EQ_EXPORT(conv_mma)

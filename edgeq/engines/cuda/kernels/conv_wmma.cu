// Convolution as an implicit matrix product on the tensor cores of sm_72 (Xavier), which take int8 only
// through wmma m16n16k16: inline PTX, as NVRTC 11 and 12 have it. (It also runs on everything later.)
//
// Tiles as in conv_mma.cu, two stages filled through registers. In shared memory each 16 bytes of K are
// a plane of their own, rows one after the other: a 16 x 16 operand is then 256 bytes in a run, as
// wmma.load's alignment wants it, and the planes' 32 bytes of padding keep stores off each other's
// banks. Weights: [Y_C / BN][STEPS][BK / 16][BN][16]. Which lane holds which sum is not known, so sums
// go through shared memory to be requantized.
#include "gather.cuh"
#include "splits.cuh"

#define EQ_A_PLANE (EQ_BM * 16 + 32)
#define EQ_B_PLANE (EQ_BN * 16 + 32)
#define EQ_A_BYTES (EQ_BK / 16 * EQ_A_PLANE)
#define EQ_STAGE_BYTES (EQ_A_BYTES + EQ_BK / 16 * EQ_B_PLANE)
#define EQ_SUM_PITCH (EQ_BN + 8)  // ints
#define EQ_SUM_BYTES (EQ_BM * EQ_SUM_PITCH * 4)
#define EQ_TILE_BYTES (2 * EQ_STAGE_BYTES > EQ_SUM_BYTES ? 2 * EQ_STAGE_BYTES : EQ_SUM_BYTES)
#define EQ_WARPS_M (EQ_BM / EQ_WM)
#define EQ_TILES_M (EQ_WM / 16)
#define EQ_TILES_N (EQ_WN / 16)

struct eq_Sums {
  int of[EQ_TILES_M * EQ_TILES_N][8];
};

#include "staged.cuh"

EQ_DEV void eq_stage(char* stage, const eq_Staged& staged) {
  const int row = threadIdx.x / EQ_STEP_GROUPS;
  const int byte = threadIdx.x % EQ_STEP_GROUPS * EQ_UNIT;
#pragma unroll
  for (int i = 0; i < EQ_A_LOADS; i++) {
    char* plane = stage + byte / 16 * EQ_A_PLANE + byte % 16;
    int* to = (int*)(plane + (row + i * EQ_A_ROWS) * 16);
#pragma unroll
    for (int v = 0; v < EQ_UNIT / 4; v++)
      if (eq_has_row(i)) to[v] = staged.a[i][v];
  }
#pragma unroll
  for (int i = 0; i < EQ_B_LOADS; i++) {
    const int chunk = threadIdx.x + i * EQ_THREADS;
    char* plane = stage + EQ_A_BYTES + chunk / EQ_BN * EQ_B_PLANE;
    if (eq_has_chunk(i)) eq_st4(plane + chunk % EQ_BN * 16, staged.b[i]);
  }
}

EQ_DEV void eq_multiply(eq_Sums& sums, const char* stage, int) {
  const int warp = threadIdx.x / 32;
  const char* a_rows = stage + warp % EQ_WARPS_M * EQ_WM * 16;
  const char* b_rows = stage + EQ_A_BYTES + warp / EQ_WARPS_M * EQ_WN * 16;
#pragma unroll
  for (int k = 0; k < EQ_USED_BK / 16; k++) {
    u32 a[EQ_TILES_M][2], b[EQ_TILES_N][2];
#pragma unroll
    for (int i = 0; i < EQ_TILES_M; i++) eq_wmma_load_a(a[i], a_rows + k * EQ_A_PLANE + i * 256, 16);
#pragma unroll
    for (int j = 0; j < EQ_TILES_N; j++) eq_wmma_load_b(b[j], b_rows + k * EQ_B_PLANE + j * 256, 16);
#pragma unroll
    for (int i = 0; i < EQ_TILES_M; i++)
#pragma unroll
      for (int j = 0; j < EQ_TILES_N; j++) eq_wmma_mma(sums.of[i * EQ_TILES_N + j], a[i], b[j]);
  }
}

// Through shared memory, four channels at a time.
EQ_DEV void eq_store_sums(i8* __restrict__ y, int* totals, const eq_Sums& sums,
                          const int* __restrict__ bias, const float* __restrict__ scale,
                          const i8* __restrict__ other, const i8* __restrict__ table) {
  const int warp = threadIdx.x / 32;
  int* own = totals + warp % EQ_WARPS_M * EQ_WM * EQ_SUM_PITCH + warp / EQ_WARPS_M * EQ_WN;
#pragma unroll
  for (int t = 0; t < EQ_TILES_M * EQ_TILES_N; t++)
    eq_wmma_store_c(own + t / EQ_TILES_N * 16 * EQ_SUM_PITCH + t % EQ_TILES_N * 16, sums.of[t],
                    EQ_SUM_PITCH);
  __syncthreads();
#pragma unroll 4
  for (int e = threadIdx.x; e < EQ_BM * EQ_BN / 4; e += EQ_THREADS) {
    const int row = e / (EQ_BN / 4), column = e % (EQ_BN / 4) * 4;
    const int m = blockIdx.x * EQ_BM + row, c = blockIdx.y * EQ_BN + column;
    const int4 sum = *(const int4*)(totals + row * EQ_SUM_PITCH + column);
    const int4 biases = eq_biases(bias + c), scales = eq_ldg4(scale + c);
    const int4 biased = {sum.x + biases.x, sum.y + biases.y, sum.z + biases.z, sum.w + biases.w};
    if (m < EQ_PIXELS && c < EQ_Y_C) eq_store_four(y, m, c, biased, scales, other, table);
  }
}

EQ_KERNEL(EQ_THREADS, EQ_MIN_BLOCKS)
void conv_wmma(const i8* __restrict__ x, const i8* __restrict__ weights,
               const i8* __restrict__ outside, int* __restrict__ scratch,
               const int* __restrict__ bias, const float* __restrict__ scale,
               const i8* __restrict__ other, const i8* __restrict__ table, i8* __restrict__ y) {
  EQ_BLOCK_SMEM(tile, EQ_TILE_BYTES + EQ_TABLE_GROUPS * 8);
  eq_Sums sums;
#pragma unroll
  for (int i = 0; i < EQ_TILES_M * EQ_TILES_N * 8; i++) sums.of[i / 8][i % 8] = 0;
  eq_sum(sums, tile, (eq_Group*)(tile + EQ_TILE_BYTES), x, weights, outside);
#if EQ_SPLITS > 1
  if (!eq_join_splits<EQ_TILES_M * EQ_TILES_N * 8>(sums.of[0], scratch)) return;
#endif
  eq_store_sums(y, (int*)tile, sums, bias, scale, other, table);
}
EQ_EXPORT(conv_wmma)

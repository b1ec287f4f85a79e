// A depthwise convolution and the 1 x 1 convolution after it, in one kernel on the tensor cores (sm_80
// and up): the int8 result between them lies in shared memory only. (As TensorRT and MobileNet
// kernels of XNNPACK-like libraries fuse them; the depthwise part is computed anew for every BN
// channels of y, so it pays where y has few.)
//
// First all threads compute BM pixels x all X_C channels of the depthwise part, in strips of TILE_W
// pixels side by side, while the first steps of the weights are on their way; then the tile's
// product runs along K = X_C with the weights streaming in, STAGES copies of 64 bytes of K.
//
// x and taps as depthwise.cuh reads them; weights [Y_C / BN][STEPS][BN rows][64], zero-padded and
// swizzled as mma_tile.cuh reads them; rows of the tile are the pixels of strips, STRIPS a row of y.
#include "depthwise.cuh"
#include "mma_tile.cuh"

#define EQ_STEPS ((EQ_X_C + 63) / 64)
#define EQ_ROWS_BYTES (EQ_STEPS * EQ_A_BYTES)
#define EQ_STREAM_BYTES (EQ_STAGES * EQ_B_BYTES)
#define EQ_USED_BYTES (EQ_ROWS_BYTES + EQ_STREAM_BYTES)
#define EQ_SEPARABLE_SCALES_AT (EQ_USED_BYTES > EQ_RESULT_BYTES ? EQ_USED_BYTES : EQ_RESULT_BYTES)
#define EQ_BLOCK_STRIPS (EQ_BM / EQ_TILE_W)

EQ_DEV void separable_fetch(char* stage, const i8* tile) {
#pragma unroll 4
  for (int chunk = threadIdx.x; chunk < EQ_B_BYTES / 16; chunk += EQ_THREADS)
    eq_cp_async<16>(stage + chunk * 16, tile + chunk * 16);
}

// The depthwise part's result, as epilogue.cuh's `eq_rounded`: sums begin at MIDDLE_START.
#define EQ_MIDDLE_START (EQ_MIDDLE_SUM_IS_SMALL ? 0x4B400000 : 0)
EQ_DEV int separable_rounded(int sum, int scale) {
  float v = EQ_MIDDLE_SUM_IS_SMALL ? __fadd_rn(eq_bits_float(sum), -12582912.0f)
                                   : __int2float_rn(sum);
  v = __fmul_rn(v, eq_bits_float(scale));
  if (!EQ_MIDDLE_RESULT_IS_SMALL)
    v = fminf(fmaxf(v, (float)(EQ_MIDDLE_LOW - EQ_MIDDLE_ZERO_POINT)),
              (float)(EQ_MIDDLE_HIGH - EQ_MIDDLE_ZERO_POINT));
  int rounded = eq_rint(v) + EQ_MIDDLE_ZERO_POINT;
  if (EQ_MIDDLE_LOW > -128) rounded = max(rounded, EQ_MIDDLE_LOW);
  if (EQ_MIDDLE_HIGH < 127) rounded = min(rounded, EQ_MIDDLE_HIGH);
  return rounded;
}

EQ_DEV u32 separable_middle(int4 sums, int4 scales, const i8* __restrict__ table) {
  const u32 upper = eq_pack2_saturated(separable_rounded(sums.z, scales.z),
                                       separable_rounded(sums.w, scales.w), 0);
  const u32 four = eq_pack2_saturated(separable_rounded(sums.x, scales.x),
                                      separable_rounded(sums.y, scales.y), upper);
  if (!EQ_MIDDLE_TABLE) return four;
  return eq_pack4(eq_ldg_i8(table + eq_byte<0>(four) + 128), eq_ldg_i8(table + eq_byte<1>(four) + 128),
                  eq_ldg_i8(table + eq_byte<2>(four) + 128), eq_ldg_i8(table + eq_byte<3>(four) + 128));
}

// Writes one strip's pixels of four channels into the rows of the product.
EQ_DEV void separable_strip(char* rows, int strip, int c, const i8* x, const int* taps,
                            const int* bias, const float* scale, const i8* table) {
  const int index = blockIdx.x * EQ_BLOCK_STRIPS + strip;
  const int line = index / EQ_STRIPS;
  if (line >= EQ_N * EQ_Y_H) return;
  Sum sums[1][EQ_TILE_W][4];
  int4 start = eq_ldg4(bias + c);
  const int4 scales = eq_ldg4(scale + c);
  start = {start.x + EQ_MIDDLE_START, start.y + EQ_MIDDLE_START, start.z + EQ_MIDDLE_START,
           start.w + EQ_MIDDLE_START};
  depthwise_sum(sums, x, taps, start, line / EQ_Y_H, line % EQ_Y_H, index % EQ_STRIPS * EQ_TILE_W,
                c);
  char* column = rows + c / EQ_BK * EQ_A_BYTES + c % 16;
#pragma unroll
  for (int i = 0; i < EQ_TILE_W; i++) {
    const u32 four = separable_middle(depthwise_whole(sums[0][i], start), scales, table);
    eq_st1(column + eq_swizzled(strip * EQ_TILE_W + i, c % EQ_BK / 16), (int)four);
  }
}

EQ_KERNEL(EQ_THREADS, 1)
void separable_mma(const i8* __restrict__ x, const int* __restrict__ taps,
                   const int* __restrict__ middle_bias, const float* __restrict__ middle_scale,
                   const i8* __restrict__ middle_table, const i8* __restrict__ weights,
                   const int* __restrict__ bias, const float* __restrict__ scale,
                   const i8* __restrict__ other, const i8* __restrict__ table,
                   i8* __restrict__ y) {
  EQ_BLOCK_SMEM(memory, EQ_SEPARABLE_SCALES_AT + EQ_BN * 4);
  char* stream = memory + EQ_ROWS_BYTES;
  float* scales = (float*)(memory + EQ_SEPARABLE_SCALES_AT);
  const i8* tile = weights + blockIdx.y * EQ_STEPS * EQ_B_BYTES;
#pragma unroll
  for (int s = 0; s < EQ_STAGES - 1; s++) {
    if (s < EQ_STEPS) separable_fetch(stream + s * EQ_B_BYTES, tile + s * EQ_B_BYTES);
    eq_cp_commit();
  }
  for (int c = threadIdx.x; c < EQ_BN; c += EQ_THREADS) scales[c] = scale[blockIdx.y * EQ_BN + c];
#pragma unroll 1
  for (int e = threadIdx.x; e < EQ_BLOCK_STRIPS * EQ_QUADS; e += EQ_THREADS)
    separable_strip(memory, e / EQ_QUADS, e % EQ_QUADS * 4, x, taps, middle_bias, middle_scale,
                    middle_table);
  eq_Sums sums;
  eq_begin(sums, bias);
#pragma unroll 1
  for (int step = 0; step < EQ_STEPS; step++) {
    eq_cp_wait<EQ_STAGES - 2>();
    __syncthreads();
    const int next = step + EQ_STAGES - 1;
    if (next < EQ_STEPS)
      separable_fetch(stream + next % EQ_STAGES * EQ_B_BYTES, tile + next * EQ_B_BYTES);
    eq_cp_commit();
    eq_multiply_rows(sums, memory + step * EQ_A_BYTES, stream + step % EQ_STAGES * EQ_B_BYTES);
  }
  eq_cp_wait<0>();
  __syncthreads();
  eq_store_tile(y, memory, sums, scales, other, table);
}
EQ_EXPORT(separable_mma)

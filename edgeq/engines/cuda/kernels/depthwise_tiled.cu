// Depthwise convolution, TILE_H x TILE_W outputs of four channels a thread, as depthwise.cuh sums them.
//
// y [N, Y_H, Y_W, X_C], pixels Y_PITCH apart.
#include "depthwise.cuh"

EQ_KERNEL(EQ_THREADS, 1)
void depthwise_tiled(const i8* __restrict__ x, const int* __restrict__ weights,
                     const int* __restrict__ bias, const float* __restrict__ scale,
                     const i8* __restrict__ other, const i8* __restrict__ table,
                     i8* __restrict__ y) {
  int t = blockIdx.x * EQ_THREADS + threadIdx.x;
  if (t >= EQ_N * EQ_TILES_H * EQ_TILES_W * EQ_QUADS) return;
  const int c = t % EQ_QUADS * 4;
  t /= EQ_QUADS;
  const int tile_w = t % EQ_TILES_W, tile_h = t / EQ_TILES_W % EQ_TILES_H;
  const int n = t / (EQ_TILES_W * EQ_TILES_H);
  const int oh = tile_h / EQ_STEP_H * (EQ_STEP_H * EQ_TILE_H) + tile_h % EQ_STEP_H;
  const int ow = tile_w / EQ_STEP_W * (EQ_STEP_W * EQ_TILE_W) + tile_w % EQ_STEP_W;
  Sum sums[EQ_TILE_H][EQ_TILE_W][4];
  const int4 start = eq_biases(bias + c), scales = eq_ldg4(scale + c);
  depthwise_sum(sums, x, weights, start, n, oh, ow, c);
#pragma unroll
  for (int k = 0; k < EQ_TILE_H; k++) {
#pragma unroll
    for (int i = 0; i < EQ_TILE_W; i++) {
      const int h = oh + k * EQ_STEP_H, w = ow + i * EQ_STEP_W;
      if (h < EQ_Y_H && w < EQ_Y_W)
        eq_store_four(y, (n * EQ_Y_H + h) * EQ_Y_W + w, c, depthwise_whole(sums[k][i], start),
                      scales, other, table);
    }
  }
}
EQ_EXPORT(depthwise_tiled)

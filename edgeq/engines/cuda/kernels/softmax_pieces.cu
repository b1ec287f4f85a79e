// SOFTMAX of long rows of int8, a block for each: as softmax.cu, but the sum of a row in its order is
// put together from pieces (ordered_sum.cuh).
//
// table [256] float32, by maximum - x.

#include "ordered_sum.cuh"

EQ_KERNEL(EQ_THREADS, 1)
void softmax_pieces(const i8* __restrict__ x, const float* __restrict__ table,
                    i8* __restrict__ y) {
  constexpr int sizes[] = EQ_SIZES, x_strides[] = EQ_X_STRIDES, y_strides[] = EQ_Y_STRIDES;
  EQ_SMEM(kept_table, 1024);
  EQ_SMEM(kept_terms, EQ_PLACES * 4);
  EQ_SMEM(kept_maxima, EQ_THREADS * 4);
  EQ_SMEM(kept_inverse, 4);
  float *exponentials = (float*)kept_table, *terms = (float*)kept_terms;
  float* inverse = (float*)kept_inverse;
  int* maxima = (int*)kept_maxima;
  const int t = threadIdx.x;
  x += eq_offset(blockIdx.x, sizes, x_strides);
  y += eq_offset(blockIdx.x, sizes, y_strides);
  for (int i = t; i < 256; i += EQ_THREADS) exponentials[i] = table[i];

  int maximum = -128;
  for (int k = t; k < EQ_DEPTH; k += EQ_THREADS) maximum = max(maximum, eq_ldg_i8(x + k));
  maxima[t] = maximum;
  __syncthreads();
#pragma unroll
  for (int half = EQ_THREADS / 2; half > 0; half /= 2) {
    if (t < half) maxima[t] = max(maxima[t], maxima[t + half]);
    __syncthreads();
  }
  maximum = maxima[0];
  for (int k = t; k < EQ_PIECES * EQ_PIECE; k += EQ_THREADS) {
    terms[eq_place(k)] = k < EQ_DEPTH ? exponentials[maximum - eq_ldg_i8(x + k)] : 0.0f;
  }
  __syncthreads();
  if (t < 32) {
    const float sum = eq_ordered_sum(terms, t);
    if (t == 0) *inverse = __fdiv_rn(1.0f, __fmul_rn(sum, EQ_SCALE));
  }
  __syncthreads();
  for (int k = t; k < EQ_DEPTH; k += EQ_THREADS) {
    const int level = eq_round_half_up(__fmul_rn(terms[eq_place(k)], *inverse)) + EQ_ZERO_POINT;
    y[k] = (i8)eq_clamp(level, -128, 127);
  }
}
EQ_EXPORT(softmax_pieces)

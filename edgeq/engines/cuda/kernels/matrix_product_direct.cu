// Batched matrix product of two int8 values, one result a thread: the reference on the device.
//
// a [..., M, K] (A_TRANSPOSED: [..., K, M]), b [..., K, N] (B_TRANSPOSED: [..., N, K]), y [..., M, N];
// rows A_PITCH, B_PITCH, Y_PITCH apart, matrix `blockIdx.y` where the strides of the outer loops say.

#include "product_result.cuh"

EQ_KERNEL(EQ_THREADS, 1)
void matrix_product_direct(const i8* __restrict__ a, const i8* __restrict__ b,
                           i8* __restrict__ y) {
  constexpr int sizes[] = EQ_SIZES, a_strides[] = EQ_A_STRIDES, b_strides[] = EQ_B_STRIDES;
  constexpr int y_strides[] = EQ_Y_STRIDES;
  const int t = blockIdx.x * EQ_THREADS + threadIdx.x;
  if (t >= EQ_M * EQ_N) return;
  const int m = t / EQ_N, n = t % EQ_N;
  const i8* left = a + eq_offset(blockIdx.y, sizes, a_strides);
  const i8* right = b + eq_offset(blockIdx.y, sizes, b_strides);
  int acc = 0;
  for (int k = 0; k < EQ_K; k++) {
    const int i = EQ_A_TRANSPOSED ? k * EQ_A_PITCH + m : m * EQ_A_PITCH + k;
    const int j = EQ_B_TRANSPOSED ? n * EQ_B_PITCH + k : k * EQ_B_PITCH + n;
    acc += (eq_ldg_i8(left + i) - EQ_A_ZERO_POINT) * (eq_ldg_i8(right + j) - EQ_B_ZERO_POINT);
  }
  y[eq_offset(blockIdx.y, sizes, y_strides) + m * EQ_Y_PITCH + n] =
      (i8)product_result(acc);
}
EQ_EXPORT(matrix_product_direct)

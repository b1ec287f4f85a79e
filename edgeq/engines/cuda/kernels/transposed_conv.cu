// Transposed convolution by gathering, one output a thread: any kernel and stride, views of any
// alignment. The reference on the device, and what is left where no faster kernel fits.
//
// x [N, X_H, X_W, X_C] int8, weights [Y_C, KH, KW, X_C] int8, y [N, Y_H, Y_W, Y_C], pixels X_PITCH and
// Y_PITCH apart. y[h] sums x[i] * w[k] wherever h + BEFORE = i * STRIDE + k; what lies outside x
// counts nothing, so ZERO_POINT is taken off x.

EQ_KERNEL(EQ_THREADS, 1)
void transposed_conv(const i8* __restrict__ x, const i8* __restrict__ weights,
                     const int* __restrict__ bias, const float* __restrict__ scale,
                     const i8* __restrict__ other, const i8* __restrict__ table,
                     i8* __restrict__ y) {
  const int t = blockIdx.x * EQ_THREADS + threadIdx.x;
  if (t >= EQ_N * EQ_Y_H * EQ_Y_W * EQ_Y_C) return;
  const int c = t % EQ_Y_C, m = t / EQ_Y_C;
  const int top = m / EQ_Y_W % EQ_Y_H + EQ_BEFORE_H, left = m % EQ_Y_W + EQ_BEFORE_W;
  const i8* image = x + m / (EQ_Y_H * EQ_Y_W) * (EQ_X_H * EQ_X_W * EQ_X_PITCH);
  const i8* filter = weights + c * (EQ_KH * EQ_KW * EQ_X_C);
  int acc = 0;
  for (int k = 0; k < EQ_KH; k++) {
    for (int l = 0; l < EQ_KW; l++) {
      const int h = (top - k) / EQ_STRIDE_H, w = (left - l) / EQ_STRIDE_W;
      if (h * EQ_STRIDE_H != top - k || w * EQ_STRIDE_W != left - l) continue;
      if ((u32)h >= EQ_X_H || (u32)w >= EQ_X_W) continue;
      const i8* pixel = image + (h * EQ_X_W + w) * EQ_X_PITCH;
      const i8* taps = filter + (k * EQ_KW + l) * EQ_X_C;
      for (int i = 0; i < EQ_X_C; i++)
        acc += (eq_ldg_i8(pixel + i) - EQ_ZERO_POINT) * eq_ldg_i8(taps + i);
    }
  }
  eq_store_result(y, m, c, acc, bias, scale, other, table);
}
EQ_EXPORT(transposed_conv)

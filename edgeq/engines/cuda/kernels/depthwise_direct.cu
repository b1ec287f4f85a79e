// Depthwise convolution, one output a thread: any kernel, stride, dilation and multiplier, views of
// any alignment. The reference on the device, and what is left where no faster kernel fits.
//
// x [N, X_H, X_W, X_C] int8, weights [KH, KW, X_C * MULTIPLIER] int8, y [N, Y_H, Y_W,
// X_C * MULTIPLIER], pixels X_PITCH and Y_PITCH apart.
// Output channel c reads input channel c / MULTIPLIER; positions outside x hold ZERO_POINT.

EQ_KERNEL(EQ_THREADS, 1)
void depthwise_direct(const i8* __restrict__ x, const i8* __restrict__ weights,
                      const int* __restrict__ bias, const float* __restrict__ scale,
                      const i8* __restrict__ other, const i8* __restrict__ table,
                      i8* __restrict__ y) {
  const int channels = EQ_X_C * EQ_MULTIPLIER;
  const int t = blockIdx.x * EQ_THREADS + threadIdx.x;
  if (t >= EQ_N * EQ_Y_H * EQ_Y_W * channels) return;
  const int c = t % channels, m = t / channels;
  const int top = m / EQ_Y_W % EQ_Y_H * EQ_STRIDE_H - EQ_BEFORE_H;
  const int left = m % EQ_Y_W * EQ_STRIDE_W - EQ_BEFORE_W;
  const i8* image = x + m / (EQ_Y_H * EQ_Y_W) * (EQ_X_H * EQ_X_W * EQ_X_PITCH) + c / EQ_MULTIPLIER;
  int acc = 0;
  for (int i = 0; i < EQ_KH; i++) {
    for (int j = 0; j < EQ_KW; j++) {
      const int h = top + i * EQ_DILATION_H, w = left + j * EQ_DILATION_W;
      const bool inside = (u32)h < EQ_X_H && (u32)w < EQ_X_W;
      const int value = inside ? eq_ldg_i8(image + (h * EQ_X_W + w) * EQ_X_PITCH) : EQ_ZERO_POINT;
      acc += value * eq_ldg_i8(weights + (i * EQ_KW + j) * channels + c);
    }
  }
  eq_store_result(y, m, c, acc, bias, scale, other, table);
}
EQ_EXPORT(depthwise_direct)

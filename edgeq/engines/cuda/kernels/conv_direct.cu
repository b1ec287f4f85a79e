// Convolution, one output a thread: any window, views of any alignment, any architecture. What the
// fast kernels are held to on a device, and what is left where none of them fits.
//
// x [N, X_H, X_W, X_C] int8, weights [KH, KW, X_C, Y_C] int8 (neighbours in a warp read neighbours),
// y [PIXELS, Y_C], PIXELS = N * Y_H * Y_W. Pixels of x and y lie X_PITCH and Y_PITCH bytes apart.
// Positions outside x hold ZERO_POINT.

EQ_KERNEL(EQ_THREADS, 1)
void conv_direct(const i8* __restrict__ x, const i8* __restrict__ weights,
                 const int* __restrict__ bias, const float* __restrict__ scale,
                 const i8* __restrict__ other, const i8* __restrict__ table, i8* __restrict__ y) {
  const int t = blockIdx.x * EQ_THREADS + threadIdx.x;
  if (t >= EQ_PIXELS * EQ_Y_C) return;
  const int c = t % EQ_Y_C, m = t / EQ_Y_C;
  const int top = m / EQ_Y_W % EQ_Y_H * EQ_STRIDE_H - EQ_BEFORE_H;
  const int left = m % EQ_Y_W * EQ_STRIDE_W - EQ_BEFORE_W;
  const i8* image = x + m / (EQ_Y_H * EQ_Y_W) * (EQ_X_H * EQ_X_W * EQ_X_PITCH);
  const i8* w = weights + c;
  int acc = 0;
  for (int i = 0; i < EQ_KH; i++) {
    for (int j = 0; j < EQ_KW; j++) {
      const int row = top + i * EQ_DILATION_H, column = left + j * EQ_DILATION_W;
      const bool inside = (u32)row < EQ_X_H && (u32)column < EQ_X_W;
      const i8* pixel = image + (row * EQ_X_W + column) * EQ_X_PITCH;
      for (int k = 0; k < EQ_X_C; k++, w += EQ_Y_C)
        acc += (inside ? eq_ldg_i8(pixel + k) : EQ_ZERO_POINT) * eq_ldg_i8(w);
    }
  }
  eq_store_result(y, m, c, acc, bias, scale, other, table);
}
EQ_EXPORT(conv_direct)

// AVERAGE_POOL_2D and MAX_POOL_2D: one output pixel and EQ_WIDTH channels a thread. Padding is left
// out of both. The average is divided in integers and rounded half away from zero, as LiteRT does.

EQ_KERNEL(EQ_THREADS, 1)
void pooling(const i8* __restrict__ x, i8* __restrict__ y) {
  const int t = blockIdx.x * EQ_THREADS + threadIdx.x;
  if (t >= EQ_N * EQ_Y_H * EQ_Y_W * (EQ_C / EQ_WIDTH)) return;
  const int c = t % (EQ_C / EQ_WIDTH) * EQ_WIDTH, m = t / (EQ_C / EQ_WIDTH);
  const int top = m / EQ_Y_W % EQ_Y_H * EQ_STRIDE_H - EQ_BEFORE_H;
  const int left = m % EQ_Y_W * EQ_STRIDE_W - EQ_BEFORE_W;
  const int first_row = max(top, 0), last_row = min(top + EQ_KH, EQ_X_H);
  const int first_column = max(left, 0), last_column = min(left + EQ_KW, EQ_X_W);
  const i8* image = x + m / (EQ_Y_H * EQ_Y_W) * (EQ_X_H * EQ_X_W * EQ_X_PITCH) + c;
  int total[EQ_WIDTH];
#pragma unroll
  for (int i = 0; i < EQ_WIDTH; i++) total[i] = EQ_IS_MAXIMUM ? -128 : 0;
  for (int h = first_row; h < last_row; h++) {
#pragma unroll 4
    for (int w = first_column; w < last_column; w++) {
      int v[EQ_WIDTH];
      eq_load(v, image + (h * EQ_X_W + w) * EQ_X_PITCH);
#pragma unroll
      for (int i = 0; i < EQ_WIDTH; i++) {
        total[i] = EQ_IS_MAXIMUM ? max(total[i], v[i]) : total[i] + v[i];
      }
    }
  }
#if !EQ_IS_MAXIMUM
  const int count = EQ_IS_WHOLE ? EQ_KH * EQ_KW
                                : (last_row - first_row) * (last_column - first_column);
#pragma unroll
  for (int i = 0; i < EQ_WIDTH; i++) total[i] = eq_divide_half_away(total[i], count);
#endif
#pragma unroll
  for (int i = 0; i < EQ_WIDTH; i++) total[i] = eq_clamp(total[i], EQ_LOW, EQ_HIGH);
  eq_store(y + m * EQ_Y_PITCH + c, total);
}
EQ_EXPORT(pooling)

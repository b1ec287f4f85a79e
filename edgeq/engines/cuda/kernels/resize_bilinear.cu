// RESIZE_BILINEAR, EQ_WIDTH channels of a pixel a thread: weights of 11 bits and one rounding, half
// up, as XNNPACK's s8-ibilinear. That goes between columns, then between rows; the products of both
// weights, of 22 bits, give the same integers in fewer steps.
//
// rows [EQ_Y_H] and columns [EQ_Y_W] hold (first, second, weight of the second, 0).

EQ_KERNEL(EQ_THREADS, 1)
void resize_bilinear(const i8* __restrict__ x, const int4* __restrict__ rows,
                     const int4* __restrict__ columns, i8* __restrict__ y) {
  const int t = blockIdx.x * EQ_THREADS + threadIdx.x;
  if (t >= EQ_N * EQ_Y_H * EQ_Y_W * (EQ_C / EQ_WIDTH)) return;
  const int c = t % (EQ_C / EQ_WIDTH) * EQ_WIDTH, m = t / (EQ_C / EQ_WIDTH);
  const int4 row = eq_ldg4(rows + m / EQ_Y_W % EQ_Y_H), column = eq_ldg4(columns + m % EQ_Y_W);
  const i8* image = x + m / (EQ_Y_H * EQ_Y_W) * (EQ_X_H * EQ_X_W * EQ_X_PITCH) + c;
  const i8 *upper = image + row.x * (EQ_X_W * EQ_X_PITCH), *lower =
      image + row.y * (EQ_X_W * EQ_X_PITCH);
  int upper_left[EQ_WIDTH], upper_right[EQ_WIDTH], lower_left[EQ_WIDTH], lower_right[EQ_WIDTH];
  eq_load(upper_left, upper + column.x * EQ_X_PITCH);
  eq_load(upper_right, upper + column.y * EQ_X_PITCH);
  eq_load(lower_left, lower + column.x * EQ_X_PITCH);
  eq_load(lower_right, lower + column.y * EQ_X_PITCH);
  const int by_upper[] = {(2048 - row.z) * (2048 - column.z), (2048 - row.z) * column.z};
  const int by_lower[] = {row.z * (2048 - column.z), row.z * column.z};
  int v[EQ_WIDTH];
#pragma unroll
  for (int i = 0; i < EQ_WIDTH; i++) {
    const int upper_sum = upper_left[i] * by_upper[0] + upper_right[i] * by_upper[1];
    const int lower_sum = lower_left[i] * by_lower[0] + lower_right[i] * by_lower[1];
    v[i] = (upper_sum + lower_sum + (1 << 21)) >> 22;
  }
  eq_store(y + m * EQ_Y_PITCH + c, v);
}
EQ_EXPORT(resize_bilinear)

// MEAN of rows of x [outer, count], each row in one piece -> y [outer]: a warp for each row, whose
// lanes add EQ_WIDTH bytes at a time.

EQ_KERNEL(EQ_THREADS, 1)
void reduce_rows(const i8* __restrict__ x, i8* __restrict__ y) {
  constexpr int sizes[] = EQ_SIZES, x_strides[] = EQ_X_STRIDES, y_strides[] = EQ_Y_STRIDES;
  const int row = blockIdx.x * (EQ_THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= EQ_ROWS) return;  // a whole warp
  const i8* from = x + eq_offset(row, sizes, x_strides);
  int total = 0;
#pragma unroll 4
  for (int k = lane * EQ_WIDTH; k < EQ_COUNT; k += 32 * EQ_WIDTH) {
#if EQ_WIDTH == 1
    total += eq_ldg_i8(from + k);
#else
    u32 words[EQ_WIDTH / 4];
    eq_load_words(words, from + k);
#pragma unroll
    for (int i = 0; i < EQ_WIDTH / 4; i++) total = eq_dp4a(words[i], 0x01010101, total);
#endif
  }
#pragma unroll
  for (int distance = 16; distance; distance /= 2) total += eq_shfl_xor(total, distance);
  if (lane) return;
  total = eq_scaled(total, EQ_SCALE, EQ_OFFSET, EQ_LOW, EQ_HIGH);
  y[eq_offset(row, sizes, y_strides)] = (i8)total;
}
EQ_EXPORT(reduce_rows)

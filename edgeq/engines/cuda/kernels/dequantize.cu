// int8 or uint8 -> float32, EQ_WIDTH neighbours a thread: (x - ZERO_POINT) * SCALE.

EQ_KERNEL(EQ_THREADS, 1)
void dequantize(const EQ_BYTE* __restrict__ x, float* __restrict__ y) {
  constexpr int sizes[] = EQ_SIZES, x_strides[] = EQ_X_STRIDES, y_strides[] = EQ_Y_STRIDES;
  const int t = blockIdx.x * EQ_THREADS + threadIdx.x;
  if (t >= EQ_COUNT) return;
  int v[EQ_WIDTH];
  eq_load(v, x + eq_offset(t, sizes, x_strides));
  u32 words[EQ_WIDTH];
#pragma unroll
  for (int i = 0; i < EQ_WIDTH; i++) {
    words[i] = eq_float_bits(__fmul_rn(__int2float_rn(v[i] - EQ_ZERO_POINT), EQ_SCALE));
  }
  eq_store_words(y + eq_offset(t, sizes, y_strides), words);
}
EQ_EXPORT(dequantize)

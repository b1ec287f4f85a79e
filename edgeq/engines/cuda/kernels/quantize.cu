// float32 -> int8 or uint8, EQ_WIDTH neighbours a thread: rint(x * INVERSE_SCALE) + ZERO_POINT,
// saturating. The first kernel of most nets. The minimum comes first: it makes a NaN the highest.
//
// Rows of y may be padded and x's not: of the last group of a row only x's EQ_ROW elements are
// read, and what is then stored beyond them goes to padding that y owns.

EQ_DEV int quantized(float v) {
  v = __fmul_rn(v, EQ_INVERSE_SCALE);
  v = fmaxf(fminf(v, (float)(EQ_HIGH - EQ_ZERO_POINT)), (float)(EQ_LOW - EQ_ZERO_POINT));
  return eq_rint(v) + EQ_ZERO_POINT;
}

EQ_KERNEL(EQ_THREADS, 1)
void quantize(const float* __restrict__ x, i8* __restrict__ y) {
  constexpr int sizes[] = EQ_SIZES, x_strides[] = EQ_X_STRIDES, y_strides[] = EQ_Y_STRIDES;
  const int t = blockIdx.x * EQ_THREADS + threadIdx.x;
  if (t >= EQ_COUNT) return;
  const float* from = x + eq_offset(t, sizes, x_strides);
  int v[EQ_WIDTH];
#if EQ_WHOLE_LOADS
  u32 words[EQ_WIDTH];
  eq_load_words(words, from);
#pragma unroll
  for (int i = 0; i < EQ_WIDTH; i++) v[i] = quantized(eq_bits_float(words[i]));
#else
  const int left = EQ_ROW - t % EQ_GROUPS * EQ_WIDTH;
#pragma unroll
  for (int i = 0; i < EQ_WIDTH; i++) v[i] = i < left ? quantized(from[i]) : 0;
#endif
  eq_store(y + eq_offset(t, sizes, y_strides), v);
}
EQ_EXPORT(quantize)

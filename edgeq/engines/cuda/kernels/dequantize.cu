// int8 or uint8 -> float32, EQ_WIDTH neighbours a thread: (x - ZERO_POINT) * SCALE, or with EQ_TABLE any
// function of a byte: the table's 256 floats, by the value's bits. A block keeps them in shared memory.
//
// With EQ_GATHERS y is one dense run and x is not: a thread's values are read one by one, and the
// last thread may have fewer.

EQ_DEV float dequantized(int v, const float* table) {
  return EQ_TABLE ? table[v] : __fmul_rn(__int2float_rn(v - EQ_ZERO_POINT), EQ_SCALE);
}

EQ_KERNEL(EQ_THREADS, 1)
void dequantize(const EQ_BYTE* __restrict__ x, const float* __restrict__ table,
                float* __restrict__ y) {
  constexpr int sizes[] = EQ_SIZES, x_strides[] = EQ_X_STRIDES, y_strides[] = EQ_Y_STRIDES;
  const float* values = table;
#if EQ_TABLE
  EQ_SMEM(kept, 1024);
  for (int i = threadIdx.x; i < 256; i += EQ_THREADS) ((float*)kept)[i] = table[i];
  __syncthreads();
  values = (const float*)kept;
#endif
  const int t = blockIdx.x * EQ_THREADS + threadIdx.x;
  if (t >= EQ_COUNT) return;
  u32 words[EQ_WIDTH];
#if EQ_GATHERS
  const int first = t * EQ_WIDTH;
#pragma unroll
  for (int i = 0; i < EQ_WIDTH; i++) {
    const int place = eq_offset(min(first + i, EQ_ELEMENTS - 1), sizes, x_strides);
    words[i] = eq_float_bits(dequantized((EQ_BYTE)eq_ldg_i8(x + place), values));
  }
  if (first + EQ_WIDTH <= EQ_ELEMENTS) {
    eq_store_words(y + first, words);
  } else {
#pragma unroll
    for (int i = 0; i < EQ_WIDTH; i++) {
      if (first + i < EQ_ELEMENTS) y[first + i] = eq_bits_float(words[i]);
    }
  }
#else
  int v[EQ_WIDTH];
  eq_load(v, x + eq_offset(t, sizes, x_strides));
#pragma unroll
  for (int i = 0; i < EQ_WIDTH; i++) words[i] = eq_float_bits(dequantized(v[i], values));
  eq_store_words(y + eq_offset(t, sizes, y_strides), words);
#endif
}
EQ_EXPORT(dequantize)

// MUL of int8 that broadcast, EQ_WIDTH neighbours a thread:
// rint(clamp((a - A_ZERO_POINT) * (b - B_ZERO_POINT) * SCALE)) + ZERO_POINT, as XNNPACK's qs8-vmul;
// with FIXED as its "rndnu" for ARM, in integers. The product is at most 2^16, LEFT at most 9.

EQ_DEV int scaled(int whole) {
#if EQ_FIXED
  const int high = __mulhi(whole << (EQ_LEFT + 1), EQ_MULTIPLIER);
  return eq_clamp(((high + (1 << (EQ_RIGHT - 1))) >> EQ_RIGHT) + EQ_ZERO_POINT, EQ_LOW, EQ_HIGH);
#else
  return eq_requant(whole, EQ_SCALE, EQ_ZERO_POINT, EQ_LOW, EQ_HIGH);
#endif
}

EQ_KERNEL(EQ_THREADS, 1)
void product(const i8* __restrict__ a, const i8* __restrict__ b, i8* __restrict__ y) {
  constexpr int sizes[] = EQ_SIZES, y_strides[] = EQ_Y_STRIDES;
  constexpr int a_strides[] = EQ_A_STRIDES, b_strides[] = EQ_B_STRIDES;
  const int t = blockIdx.x * EQ_THREADS + threadIdx.x;
  if (t >= EQ_COUNT) return;
  int v[EQ_WIDTH], w[EQ_WIDTH];
  eq_load_operand<EQ_A_SPREAD>(v, a + eq_offset(t, sizes, a_strides));
  eq_load_operand<EQ_B_SPREAD>(w, b + eq_offset(t, sizes, b_strides));
#pragma unroll
  for (int i = 0; i < EQ_WIDTH; i++) {
    v[i] = scaled((v[i] - EQ_A_ZERO_POINT) * (w[i] - EQ_B_ZERO_POINT));
  }
  eq_store(y + eq_offset(t, sizes, y_strides), v);
}
EQ_EXPORT(product)

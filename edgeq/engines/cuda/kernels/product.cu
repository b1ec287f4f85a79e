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

EQ_DEV int combined(int a, int b) { return scaled((a - EQ_A_ZERO_POINT) * (b - EQ_B_ZERO_POINT)); }

#include "binary.cuh"

EQ_KERNEL(EQ_THREADS, 1)
void product(const i8* __restrict__ a, const i8* __restrict__ b, i8* __restrict__ y) {
  combine_all(a, b, y);
}
EQ_EXPORT(product)

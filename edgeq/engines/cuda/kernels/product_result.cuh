// int32 -> int8 of a matrix product: as XNNPACK's requantization; with FIXED as LiteRT's
// MultiplyByQuantizedMultiplier, which rounds twice.

#if EQ_FIXED
// v * MULTIPLIER / 2^31, halves up: the high word of twice the product, and what its low one carries.
EQ_DEV int product_scaled(int v) {
  const u32 doubled = (u32)v << (EQ_LEFT + 1);
  return __mulhi((int)doubled, EQ_MULTIPLIER) + (int)((doubled * (u32)EQ_MULTIPLIER) >> 31);
}

// v / 2^RIGHT, halves away from zero.
EQ_DEV int product_shifted(int v) {
  const int mask = (int)((1u << EQ_RIGHT) - 1u);
  return (v >> EQ_RIGHT) + ((v & mask) > (mask >> 1) + (v < 0));
}

EQ_DEV int product_result(int acc) {
  const int v = product_shifted(product_scaled(acc)) + EQ_RESULT_ZERO_POINT;
  return eq_clamp(v, EQ_RESULT_LOW, EQ_RESULT_HIGH);
}
#else
EQ_DEV int product_result(int acc) {
  return eq_requant(acc, EQ_SCALE, EQ_RESULT_ZERO_POINT, EQ_RESULT_LOW, EQ_RESULT_HIGH);
}
#endif

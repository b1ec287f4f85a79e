// ADD and SUB of int8 that broadcast, EQ_WIDTH neighbours a thread:
// clamp(((a * A_FACTOR + b * B_FACTOR + BIAS) >> SHIFT) + ZERO_POINT), as XNNPACK's qs8-vadd.

EQ_DEV int combined(int a, int b) {
  const int total = a * EQ_A_FACTOR + b * EQ_B_FACTOR + EQ_BIAS;
  return eq_clamp((total >> EQ_SHIFT) + EQ_ZERO_POINT, EQ_LOW, EQ_HIGH);
}

#include "binary.cuh"

EQ_KERNEL(EQ_THREADS, 1)
void sum(const i8* __restrict__ a, const i8* __restrict__ b, i8* __restrict__ y) {
  combine_all(a, b, y);
}
EQ_EXPORT(sum)

// MAXIMUM and MINIMUM of int8 that broadcast, EQ_WIDTH neighbours a thread.

EQ_DEV int combined(int a, int b) { return EQ_MAXIMUM ? max(a, b) : min(a, b); }

#include "binary.cuh"

EQ_KERNEL(EQ_THREADS, 1)
void extremum(const i8* __restrict__ a, const i8* __restrict__ b, i8* __restrict__ y) {
  combine_all(a, b, y);
}
EQ_EXPORT(extremum)

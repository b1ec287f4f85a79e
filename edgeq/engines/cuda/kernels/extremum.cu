// MAXIMUM and MINIMUM of int8 that broadcast, EQ_WIDTH neighbours a thread.

EQ_KERNEL(EQ_THREADS, 1)
void extremum(const i8* __restrict__ a, const i8* __restrict__ b, i8* __restrict__ y) {
  constexpr int sizes[] = EQ_SIZES, y_strides[] = EQ_Y_STRIDES;
  constexpr int a_strides[] = EQ_A_STRIDES, b_strides[] = EQ_B_STRIDES;
  const int t = blockIdx.x * EQ_THREADS + threadIdx.x;
  if (t >= EQ_COUNT) return;
  int v[EQ_WIDTH], w[EQ_WIDTH];
  eq_load_operand<EQ_A_SPREAD>(v, a + eq_offset(t, sizes, a_strides));
  eq_load_operand<EQ_B_SPREAD>(w, b + eq_offset(t, sizes, b_strides));
#pragma unroll
  for (int i = 0; i < EQ_WIDTH; i++) v[i] = EQ_MAXIMUM ? max(v[i], w[i]) : min(v[i], w[i]);
  eq_store(y + eq_offset(t, sizes, y_strides), v);
}
EQ_EXPORT(extremum)

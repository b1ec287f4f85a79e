// Two int8 operands that broadcast -> one, EQ_WIDTH neighbours a thread. The kernel that includes this
// has defined `combined`, what becomes of two values.
//
// With EQ_TAIL, both operands and y are dense runs (or one value for all): what fills no group at
// their ends is left to threads of one element each.

template <int Width>
EQ_DEV void combine(const i8* __restrict__ a, const i8* __restrict__ b, i8* __restrict__ y) {
  int v[Width], w[Width];
  eq_load_operand<EQ_A_SPREAD>(v, a);
  eq_load_operand<EQ_B_SPREAD>(w, b);
#pragma unroll
  for (int i = 0; i < Width; i++) v[i] = combined(v[i], w[i]);
  eq_store(y, v);
}

EQ_DEV void combine_all(const i8* __restrict__ a, const i8* __restrict__ b, i8* __restrict__ y) {
  constexpr int sizes[] = EQ_SIZES, y_strides[] = EQ_Y_STRIDES;
  constexpr int a_strides[] = EQ_A_STRIDES, b_strides[] = EQ_B_STRIDES;
  const int t = blockIdx.x * EQ_THREADS + threadIdx.x;
  if (t < EQ_COUNT) {
    combine<EQ_WIDTH>(a + eq_offset(t, sizes, a_strides), b + eq_offset(t, sizes, b_strides),
                      y + eq_offset(t, sizes, y_strides));
  } else if (t < EQ_COUNT + EQ_TAIL) {
    const int place = EQ_COUNT * EQ_WIDTH + t - EQ_COUNT;
    combine<1>(EQ_A_SPREAD ? a : a + place, EQ_B_SPREAD ? b : b + place, y + place);
  }
}

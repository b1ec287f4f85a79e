// A function of one int8 or uint8 by its table of 256 bytes, EQ_WIDTH neighbours a thread. The table
// is indexed by the value's bits, so that no offset is added; a block keeps it in shared memory.
//
// With EQ_TAIL, x and y are dense runs: what fills no group at their ends is left to threads of one
// element each.

template <int Width>
EQ_DEV void look_up(const u8* __restrict__ x, const u8* table, u8* __restrict__ y) {
  int v[Width];
  eq_load(v, x);
#pragma unroll
  for (int i = 0; i < Width; i++) v[i] = table[v[i]];
  eq_store(y, v);
}

EQ_KERNEL(EQ_THREADS, 1)
void lookup(const u8* __restrict__ x, const u8* __restrict__ table, u8* __restrict__ y) {
  constexpr int sizes[] = EQ_SIZES, x_strides[] = EQ_X_STRIDES, y_strides[] = EQ_Y_STRIDES;
  EQ_SMEM(kept, 256);
  for (int i = threadIdx.x; i < 64; i += EQ_THREADS) ((int*)kept)[i] = eq_ldg1(table + 4 * i);
  __syncthreads();
  const int t = blockIdx.x * EQ_THREADS + threadIdx.x;
  const u8* values = (const u8*)kept;
  if (t < EQ_COUNT) {
    look_up<EQ_WIDTH>(x + eq_offset(t, sizes, x_strides), values,
                      y + eq_offset(t, sizes, y_strides));
  } else if (t < EQ_COUNT + EQ_TAIL) {
    const int place = EQ_COUNT * EQ_WIDTH + t - EQ_COUNT;
    look_up<1>(x + place, values, y + place);
  }
}
EQ_EXPORT(lookup)

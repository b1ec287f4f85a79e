// A function of one int8 or uint8 by its table of 256 bytes, EQ_WIDTH neighbours a thread. The table
// is indexed by the value's bits, so that no offset is added; a block keeps it in shared memory.

EQ_KERNEL(EQ_THREADS, 1)
void lookup(const u8* __restrict__ x, const u8* __restrict__ table, u8* __restrict__ y) {
  constexpr int sizes[] = EQ_SIZES, x_strides[] = EQ_X_STRIDES, y_strides[] = EQ_Y_STRIDES;
  EQ_SMEM(kept, 256);
  for (int i = threadIdx.x; i < 64; i += EQ_THREADS) ((int*)kept)[i] = eq_ldg1(table + 4 * i);
  __syncthreads();
  const int t = blockIdx.x * EQ_THREADS + threadIdx.x;
  if (t >= EQ_COUNT) return;
  int v[EQ_WIDTH];
  eq_load(v, x + eq_offset(t, sizes, x_strides));
#pragma unroll
  for (int i = 0; i < EQ_WIDTH; i++) v[i] = ((const u8*)kept)[v[i]];
  eq_store(y + eq_offset(t, sizes, y_strides), v);
}
EQ_EXPORT(lookup)

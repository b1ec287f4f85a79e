// A function of one int8 for each channel, by tables [EQ_CHANNELS, 256] that are indexed by the
// value's bits; EQ_WIDTH channels a thread.

EQ_KERNEL(EQ_THREADS, 1)
void channel_lookup(const u8* __restrict__ x, const i8* __restrict__ tables, i8* __restrict__ y) {
  constexpr int sizes[] = EQ_SIZES, x_strides[] = EQ_X_STRIDES, y_strides[] = EQ_Y_STRIDES;
  const int t = blockIdx.x * EQ_THREADS + threadIdx.x;
  if (t >= EQ_COUNT) return;
  const i8* own = tables + t % (EQ_CHANNELS / EQ_WIDTH) * (EQ_WIDTH * 256);
  int v[EQ_WIDTH];
  eq_load(v, x + eq_offset(t, sizes, x_strides));
#pragma unroll
  for (int i = 0; i < EQ_WIDTH; i++) v[i] = eq_ldg_i8(own + i * 256 + v[i]);
  eq_store(y + eq_offset(t, sizes, y_strides), v);
}
EQ_EXPORT(channel_lookup)

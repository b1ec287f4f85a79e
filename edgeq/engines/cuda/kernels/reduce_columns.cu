// x, seen as [outer, count, inner] -> y [outer, inner], for MEAN and for pooling of a whole image: a
// block takes EQ_GROUPS groups of EQ_WIDTH inner neighbours, and EQ_SPLIT threads share the count of
// each; their sums meet in shared memory.
//
// EQ_FINISH: 0 scales the sum and adds EQ_OFFSET, 1 divides it by the count in integers, half away
// from zero, 2 takes the maximum instead.

#define EQ_BLOCKS ((EQ_COLUMNS + EQ_GROUPS - 1) / EQ_GROUPS)

EQ_DEV int joined(int a, int b) { return EQ_FINISH == 2 ? max(a, b) : a + b; }

EQ_DEV int finished(int total) {
#if EQ_FINISH == 0
  return eq_scaled(total, EQ_SCALE, EQ_OFFSET, EQ_LOW, EQ_HIGH);
#elif EQ_FINISH == 1
  return eq_clamp(eq_divide_half_away(total, EQ_COUNT), EQ_LOW, EQ_HIGH);
#else
  return eq_clamp(total, EQ_LOW, EQ_HIGH);
#endif
}

EQ_KERNEL(EQ_THREADS, 1)
void reduce_columns(const i8* __restrict__ x, i8* __restrict__ y) {
  constexpr int outer_sizes[] = EQ_OUTER_SIZES, count_sizes[] = EQ_COUNT_SIZES;
  constexpr int inner_sizes[] = EQ_INNER_SIZES, count_strides[] = EQ_X_COUNT_STRIDES;
  constexpr int x_outer[] = EQ_X_OUTER_STRIDES, x_inner[] = EQ_X_INNER_STRIDES;
  constexpr int y_outer[] = EQ_Y_OUTER_STRIDES, y_inner[] = EQ_Y_INNER_STRIDES;
  EQ_SMEM(kept, EQ_THREADS * EQ_WIDTH * 4);
  int* partial = (int*)kept;
  const int outer = blockIdx.x / EQ_BLOCKS, first = blockIdx.x % EQ_BLOCKS * EQ_GROUPS;
  const int group = first + threadIdx.x % EQ_GROUPS, part = threadIdx.x / EQ_GROUPS;
  int total[EQ_WIDTH];
#pragma unroll
  for (int i = 0; i < EQ_WIDTH; i++) total[i] = EQ_FINISH == 2 ? -128 : 0;
  if (group < EQ_COLUMNS) {
    const i8* column = x + eq_offset(outer, outer_sizes, x_outer);
    column += eq_offset(group * EQ_WIDTH, inner_sizes, x_inner);
#pragma unroll 4
    for (int k = part; k < EQ_COUNT; k += EQ_SPLIT) {
      int v[EQ_WIDTH];
      eq_load(v, column + eq_offset(k, count_sizes, count_strides));
#pragma unroll
      for (int i = 0; i < EQ_WIDTH; i++) total[i] = joined(total[i], v[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < EQ_WIDTH; i++) partial[i * EQ_THREADS + threadIdx.x] = total[i];
  __syncthreads();
#pragma unroll
  for (int half = EQ_SPLIT / 2; half > 0; half /= 2) {
    if (part < half) {
#pragma unroll
      for (int i = 0; i < EQ_WIDTH; i++) {
        int* own = partial + i * EQ_THREADS + threadIdx.x;
        *own = joined(*own, own[half * EQ_GROUPS]);
      }
    }
    __syncthreads();
  }
  y += eq_offset(outer, outer_sizes, y_outer);
  for (int i = threadIdx.x; i < EQ_GROUPS * EQ_WIDTH; i += EQ_THREADS) {
    const int index = first * EQ_WIDTH + i;
    if (index >= EQ_INNER) return;
    const int sum = partial[i % EQ_WIDTH * EQ_THREADS + i / EQ_WIDTH];
    y[eq_offset(index, inner_sizes, y_inner)] = (i8)finished(sum);
  }
}
EQ_EXPORT(reduce_columns)

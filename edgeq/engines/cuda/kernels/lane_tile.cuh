// A block's tile of BM pixels x BN channels without tensor cores: each thread sums TM pixels x TN
// channels (pixels side by side; channels in fours, BN * 4 / TN apart), BK bytes of K a step, from
// two stages in shared memory that are filled through registers.
//
// The kernel that includes this has said what one row of K is in shared memory: eq_Element, of
// EQ_ROW_BYTES bytes of K; eq_Partial, what products are added to; eq_spread, which writes a word of
// four bytes of K; eq_multiply_add; eq_whole, a partial sum as an int; and FLUSH_STEPS, how many
// steps a partial sum holds.
//
// Weights: [Y_C / BN][STEPS][BK / 4][BN] words of four bytes of K, zero-padded.

#define EQ_ROWS (EQ_BK / EQ_ROW_BYTES)
#define EQ_A_PITCH (EQ_BM + 4)
#define EQ_A_ELEMENTS (EQ_ROWS * EQ_A_PITCH)
#define EQ_STAGE_ELEMENTS (EQ_A_ELEMENTS + EQ_ROWS * EQ_BN)
#define EQ_A_ROWS (EQ_THREADS / EQ_STEP_GROUPS)  // loaded at once
#define EQ_A_LOADS ((EQ_BM + EQ_A_ROWS - 1) / EQ_A_ROWS)
#define EQ_B_CHUNKS (EQ_BK / 4 * EQ_BN / 4)
#define EQ_B_LOADS ((EQ_B_CHUNKS + EQ_THREADS - 1) / EQ_THREADS)
#define EQ_ACROSS (EQ_BN / EQ_TN)  // threads side by side along the channels

struct eq_Staged {  // on the way from global to shared memory
  int a[EQ_A_LOADS][EQ_UNIT / 4];
  int4 b[EQ_B_LOADS];
};

EQ_DEV bool eq_has_row(int i) {
  return EQ_BM % EQ_A_ROWS == 0 || threadIdx.x / EQ_STEP_GROUPS + i * EQ_A_ROWS < EQ_BM;
}
EQ_DEV bool eq_has_chunk(int i) {
  return EQ_B_CHUNKS % EQ_THREADS == 0 || threadIdx.x + i * EQ_THREADS < EQ_B_CHUNKS;
}

EQ_DEV void eq_load_unit(int (&words)[EQ_UNIT / 4], const i8* from) {
#if EQ_UNIT == 16
  const int4 v = eq_ldg4(from);
  words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
#elif EQ_UNIT == 8
  const int2 v = eq_ldg2(from);
  words[0] = v.x, words[1] = v.y;
#else
  words[0] = eq_ldg1(from);
#endif
}

EQ_DEV void eq_load(eq_Staged& staged, const eq_Window (&windows)[EQ_A_LOADS], eq_Group group,
                    const i8* tile, const i8* outside) {
#pragma unroll
  for (int i = 0; i < EQ_A_LOADS; i++)
    if (eq_has_row(i)) eq_load_unit(staged.a[i], eq_source(windows[i], group, outside));
#pragma unroll
  for (int i = 0; i < EQ_B_LOADS; i++)
    if (eq_has_chunk(i)) staged.b[i] = eq_ldg4(tile + (threadIdx.x + i * EQ_THREADS) * 16);
}

EQ_DEV void eq_stage(eq_Element* stage, const eq_Staged& staged) {
  const int row = threadIdx.x / EQ_STEP_GROUPS;
  const int byte = threadIdx.x % EQ_STEP_GROUPS * EQ_UNIT;
#pragma unroll
  for (int i = 0; i < EQ_A_LOADS; i++)
#pragma unroll
    for (int v = 0; v < EQ_UNIT / 4; v++)
      if (eq_has_row(i))
        eq_spread(stage + (byte + v * 4) / EQ_ROW_BYTES * EQ_A_PITCH + row + i * EQ_A_ROWS,
                  EQ_A_PITCH, staged.a[i][v]);
#pragma unroll
  for (int i = 0; i < EQ_B_LOADS; i++) {
    const int first = (threadIdx.x + i * EQ_THREADS) * 4;
    eq_Element* to = stage + EQ_A_ELEMENTS + first / EQ_BN * (4 / EQ_ROW_BYTES) * EQ_BN + first % EQ_BN;
    if (!eq_has_chunk(i)) continue;
    eq_spread(to, EQ_BN, staged.b[i].x);
    eq_spread(to + 1, EQ_BN, staged.b[i].y);
    eq_spread(to + 2, EQ_BN, staged.b[i].z);
    eq_spread(to + 3, EQ_BN, staged.b[i].w);
  }
}

// Adds the products of one stage.
EQ_DEV void eq_multiply(eq_Partial (&partial)[EQ_TM][EQ_TN], const eq_Element* stage) {
  const eq_Element* a_row = stage + threadIdx.x / EQ_ACROSS * EQ_TM;
  const eq_Element* b_row = stage + EQ_A_ELEMENTS + threadIdx.x % EQ_ACROSS * 4;
#pragma unroll
  for (int r = 0; r < EQ_ROWS; r++) {
    int a[EQ_TM], b[EQ_TN];  // as bits
#pragma unroll
    for (int i = 0; i < EQ_TM; i += 4) {
      const int4 v = *(const int4*)(a_row + r * EQ_A_PITCH + i);
      a[i] = v.x, a[i + 1] = v.y, a[i + 2] = v.z, a[i + 3] = v.w;
    }
#pragma unroll
    for (int j = 0; j < EQ_TN; j += 4) {
      const int4 v = *(const int4*)(b_row + r * EQ_BN + j * EQ_ACROSS);
      b[j] = v.x, b[j + 1] = v.y, b[j + 2] = v.z, b[j + 3] = v.w;
    }
#pragma unroll
    for (int i = 0; i < EQ_TM; i++)
#pragma unroll
      for (int j = 0; j < EQ_TN; j++) partial[i][j] = eq_multiply_add(a[i], b[j], partial[i][j]);
  }
}

// Adds partial sums to the whole ones, and begins anew.
EQ_DEV void eq_flush(int (&sums)[EQ_TM * EQ_TN], eq_Partial (&partial)[EQ_TM][EQ_TN]) {
#pragma unroll
  for (int i = 0; i < EQ_TM; i++)
#pragma unroll
    for (int j = 0; j < EQ_TN; j++) {
      sums[i * EQ_TN + j] += eq_whole(partial[i][j]);
      partial[i][j] = 0;
    }
}

// Steps first to end - 1 of this block's tile; `b` is the weights' tile of the first.
EQ_DEV void eq_sum(int (&sums)[EQ_TM * EQ_TN], eq_Element* shared, const eq_Group* groups,
                   const i8* x, const i8* b, const i8* outside, int first, int end) {
  const int column = threadIdx.x % EQ_STEP_GROUPS;
  eq_Window windows[EQ_A_LOADS];
#pragma unroll
  for (int i = 0; i < EQ_A_LOADS; i++)
    windows[i] =
        eq_window(x, blockIdx.x * EQ_BM + threadIdx.x / EQ_STEP_GROUPS + i * EQ_A_ROWS);
  eq_Partial partial[EQ_TM][EQ_TN];
#pragma unroll
  for (int i = 0; i < EQ_TM * EQ_TN; i++) sums[i] = 0, partial[i / EQ_TN][i % EQ_TN] = 0;

  eq_Staged staged;
  eq_load(staged, windows, eq_group_of(groups, first * EQ_STEP_GROUPS + column), b, outside);
  eq_stage(shared, staged);
  __syncthreads();
#pragma unroll 1
  for (int step = first; step < end; step++) {
    const int odd = (step - first) & 1;
    b += EQ_BK * EQ_BN;
    if (step + 1 < end)
      eq_load(staged, windows, eq_group_of(groups, (step + 1) * EQ_STEP_GROUPS + column), b,
              outside);
    eq_multiply(partial, shared + odd * EQ_STAGE_ELEMENTS);
    if (EQ_STEPS > EQ_FLUSH_STEPS && (step - first) % EQ_FLUSH_STEPS == EQ_FLUSH_STEPS - 1)
      eq_flush(sums, partial);
    if (step + 1 < end) eq_stage(shared + (odd ^ 1) * EQ_STAGE_ELEMENTS, staged);
    __syncthreads();
  }
  eq_flush(sums, partial);
}

EQ_DEV void eq_store_sums(i8* __restrict__ y, const int (&sums)[EQ_TM * EQ_TN],
                          const int* __restrict__ bias, const float* __restrict__ scale,
                          const i8* __restrict__ other, const i8* __restrict__ table) {
  const int m = blockIdx.x * EQ_BM + threadIdx.x / EQ_ACROSS * EQ_TM;
#pragma unroll
  for (int j = 0; j < EQ_TN; j += 4) {
    const int c = blockIdx.y * EQ_BN + threadIdx.x % EQ_ACROSS * 4 + j * EQ_ACROSS;
    const int4 biases = eq_ldg4(bias + c), scales = eq_ldg4(scale + c);
#pragma unroll
    for (int i = 0; i < EQ_TM; i++) {
      const int* own = sums + i * EQ_TN + j;
      const int4 four = {own[0] + biases.x, own[1] + biases.y, own[2] + biases.z, own[3] + biases.w};
      if ((EQ_PIXELS % EQ_BM == 0 || m + i < EQ_PIXELS) && c < EQ_Y_C)
        eq_store_four(y, m + i, c, four, scales, other, table);
    }
  }
}

EQ_DEV void eq_convolve(const i8* __restrict__ x, const i8* __restrict__ weights,
                        const i8* __restrict__ outside, int* __restrict__ scratch,
                        const int* __restrict__ bias, const float* __restrict__ scale,
                        const i8* __restrict__ other, const i8* __restrict__ table,
                        i8* __restrict__ y) {
  EQ_SMEM(shared, 2 * EQ_STAGE_ELEMENTS * 4);
  EQ_SMEM(groups_at, EQ_TABLE_GROUPS * 8);
  eq_Group* groups = (eq_Group*)groups_at;
  eq_fill_groups(groups);
  const int first = EQ_SPLITS > 1 ? blockIdx.z * EQ_SPLIT_STEPS : 0;
  const int end = EQ_SPLITS > 1 ? min(first + EQ_SPLIT_STEPS, EQ_STEPS) : EQ_STEPS;
  const i8* b = weights + (blockIdx.y * EQ_STEPS + first) * (EQ_BK * EQ_BN);
  int sums[EQ_TM * EQ_TN];
  eq_sum(sums, (eq_Element*)shared, groups, x, b, outside, first, end);
#if EQ_SPLITS > 1
  if (!eq_join_splits<EQ_TM * EQ_TN>(sums, scratch)) return;
#endif
  eq_store_sums(y, sums, bias, scale, other, table);
}

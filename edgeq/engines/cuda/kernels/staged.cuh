// Steps along K through registers, for GPUs without cp.async: while one of two stages in shared memory
// is multiplied, the next step's bytes are on their way.
//
// The file that includes this has defined EQ_STAGE_BYTES and eq_Sums; eq_stage and eq_multiply follow.

struct eq_Staged {  // on the way from global to shared memory
  int a[EQ_A_LOADS][EQ_UNIT / 4];
  int4 b[EQ_B_LOADS];
};

EQ_DEV void eq_stage(char* stage, const eq_Staged& staged);
EQ_DEV void eq_multiply(eq_Sums& sums, const char* stage, int step);  // step: of this block's, from 0

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

// Sums this block's steps.
EQ_DEV void eq_sum(eq_Sums& sums, char* shared, eq_Group* groups, const i8* __restrict__ x,
                   const i8* __restrict__ weights, const i8* __restrict__ outside) {
  const int first = EQ_FIRST_STEP, count = EQ_END_STEP - first;
  const int column = first * EQ_STEP_GROUPS + threadIdx.x % EQ_STEP_GROUPS;
  const i8* b = weights + (blockIdx.y * EQ_STEPS + first) * (EQ_BN * EQ_BK);
  eq_fill_groups(groups);
  eq_Window windows[EQ_A_LOADS];
  eq_find_windows(windows, x);
  eq_Staged staged;
  eq_load(staged, windows, eq_group_of(groups, column), b, outside);
  eq_stage(shared, staged);
  __syncthreads();
#pragma unroll 1
  for (int step = 0; step < count; step++) {
    b += EQ_BN * EQ_BK;
    if (step + 1 < count)
      eq_load(staged, windows, eq_group_of(groups, column + (step + 1) * EQ_STEP_GROUPS), b,
              outside);
    eq_multiply(sums, shared + (step & 1) * EQ_STAGE_BYTES, step);
    if (step + 1 < count) eq_stage(shared + (~step & 1) * EQ_STAGE_BYTES, staged);
    __syncthreads();
  }
}

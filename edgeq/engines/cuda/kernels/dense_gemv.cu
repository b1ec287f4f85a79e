// Fully-connected layer for few rows: PARTS threads share OUTPUTS outputs of ROWS_TOGETHER rows, each
// takes every PARTS-th chunk of 16 bytes along K, and their sums meet by shuffles; of more than a
// warp, then in shared memory. So narrow layers use as many threads as wide ones.
//
// x [ROWS, K] int8, rows X_PITCH apart, weights [O up to a multiple of OUTPUTS, K_PITCH] int8, K_PITCH
// the next multiple of 16 (zeros beyond K), y [ROWS, O], rows Y_PITCH apart. At batch 1 every weight
// is read once, so its bandwidth is the bound: no staging, all loads of a thread independent.

#define EQ_CHUNKS (EQ_K_PITCH / 16)
#define EQ_LANES (EQ_PARTS < 32 ? EQ_PARTS : 32)  // of a warp that share outputs
#define EQ_WARPS (EQ_PARTS / EQ_LANES)            // of a block that share outputs
#define EQ_GROUPS (EQ_THREADS / EQ_PARTS)         // of a block, with outputs of their own
#define EQ_SUMS (EQ_ROWS_TOGETHER * EQ_OUTPUTS)

// 16 bytes of a row of x, zero beyond K.
EQ_DEV int4 dense_load(const i8* row, int k) {
#if EQ_X_ALIGNED
  if (EQ_X_ROOM || k + 16 <= EQ_K) return eq_ldg4(row + k);
#endif
  u32 words[4] = {0, 0, 0, 0};
#pragma unroll
  for (int i = 0; i < 16; i++)
    if (k + i < EQ_K) words[i / 4] |= (u32)(eq_ldg_i8(row + k + i) & 255) << (i % 4 * 8);
  const int4 loaded = {(int)words[0], (int)words[1], (int)words[2], (int)words[3]};
  return loaded;
}

EQ_DEV int dense_dot(int4 a, int4 b, int sum) {
  sum = eq_dp4a(a.x, b.x, sum);
  sum = eq_dp4a(a.y, b.y, sum);
  sum = eq_dp4a(a.z, b.z, sum);
  return eq_dp4a(a.w, b.w, sum);
}

// The sums of all threads that share outputs, to be read by any of the group's first warp.
EQ_DEV void dense_reduce(int (&sums)[EQ_SUMS], int group, int part) {
#pragma unroll
  for (int s = 0; s < EQ_SUMS; s++)
#pragma unroll
    for (int mask = EQ_LANES / 2; mask; mask >>= 1) sums[s] += eq_shfl_xor(sums[s], mask);
#if EQ_WARPS > 1
  EQ_SMEM(memory, EQ_GROUPS * EQ_WARPS * EQ_SUMS * 4);
  int* shared = (int*)memory + group * EQ_WARPS * EQ_SUMS;
  if (part % 32 == 0)
#pragma unroll
    for (int s = 0; s < EQ_SUMS; s++) shared[part / 32 * EQ_SUMS + s] = sums[s];
  __syncthreads();
  if (part < 32)
#pragma unroll
    for (int s = 0; s < EQ_SUMS; s++) {
      sums[s] = 0;
#pragma unroll
      for (int w = 0; w < EQ_WARPS; w++) sums[s] += shared[w * EQ_SUMS + s];
    }
#endif
}

EQ_KERNEL(EQ_THREADS, 1)
void dense_gemv(const i8* __restrict__ x, const i8* __restrict__ weights,
                const int* __restrict__ bias, const float* __restrict__ scale,
                const i8* __restrict__ other, const i8* __restrict__ table, i8* __restrict__ y) {
  const int part = threadIdx.x % EQ_PARTS, group = threadIdx.x / EQ_PARTS;
  const int o = (blockIdx.x * EQ_GROUPS + group) * EQ_OUTPUTS;
  const int row = blockIdx.y * EQ_ROWS_TOGETHER;
  int sums[EQ_SUMS] = {};
  if (o < EQ_O) {
#pragma unroll 4
    for (int chunk = part; chunk < EQ_CHUNKS; chunk += EQ_PARTS) {
      int4 loaded[EQ_ROWS_TOGETHER];
#pragma unroll
      for (int r = 0; r < EQ_ROWS_TOGETHER; r++)  // beyond the last row: that one again
        loaded[r] = dense_load(x + min(row + r, EQ_ROWS - 1) * EQ_X_PITCH, chunk * 16);
#pragma unroll
      for (int j = 0; j < EQ_OUTPUTS; j++) {
        const int4 w = eq_ldg4(weights + (size_t)(o + j) * EQ_K_PITCH + chunk * 16);
#pragma unroll
        for (int r = 0; r < EQ_ROWS_TOGETHER; r++)
          sums[r * EQ_OUTPUTS + j] = dense_dot(loaded[r], w, sums[r * EQ_OUTPUTS + j]);
      }
    }
  }
  dense_reduce(sums, group, part);
#pragma unroll
  for (int s = 0; s < EQ_SUMS; s++) {
    const int r = row + s / EQ_OUTPUTS, c = o + s % EQ_OUTPUTS;
    if (part == s % EQ_LANES && r < EQ_ROWS && c < EQ_O)
      eq_store_result(y, r, c, sums[s], bias, scale, other, table);
  }
}
EQ_EXPORT(dense_gemv)

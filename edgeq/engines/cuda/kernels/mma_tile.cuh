// A block's tile of BM pixels x BN channels on the tensor cores, in warps of WM x WN: from shared
// memory to accumulators, from there (split along K or not) through the epilogue to y.
//
// Operands lie in shared memory in rows of BK bytes: pixels of x, channels of the weights. Their
// 16-byte chunks are exchanged within groups of rows so that the eight rows of an ldmatrix, and the
// writes of neighbouring threads, meet each bank once.

#define EQ_WARPS_M (EQ_BM / EQ_WM)
#define EQ_TILES_M (EQ_WM / 16)
#define EQ_TILES_N (EQ_WN / 8)
#define EQ_A_BYTES (EQ_BM * EQ_BK)
#define EQ_B_BYTES (EQ_BN * EQ_BK)
#define EQ_STAGE_BYTES (EQ_A_BYTES + EQ_B_BYTES)
#define EQ_RESULT_PITCH (EQ_BN + 16)
#define EQ_RESULT_BYTES (EQ_BM * EQ_RESULT_PITCH)
#define EQ_TILE_BYTES \
  (EQ_STAGES * EQ_STAGE_BYTES > EQ_RESULT_BYTES ? EQ_STAGES * EQ_STAGE_BYTES : EQ_RESULT_BYTES)

// What a block has in shared memory: the stages, which the results follow; scales; groups.
#define EQ_SCALES_AT EQ_TILE_BYTES
#define EQ_GROUPS_AT (EQ_SCALES_AT + EQ_BN * 4)
#define EQ_SHARED_BYTES (EQ_GROUPS_AT + EQ_TABLE_GROUPS * 8)

#define EQ_TILES (EQ_TILES_M * EQ_TILES_N)  // of 16 x 8

struct eq_Sums {
  int of[EQ_TILES][4];  // lane l: pixels l / 4 and l / 4 + 8, of each the channels l % 4 * 2 and next
};

// Begins with the biases; where K is split, in its first part only.
EQ_DEV void eq_begin(eq_Sums& sums, const int* __restrict__ bias) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int* own = bias + blockIdx.y * EQ_BN + warp / EQ_WARPS_M * EQ_WN + (lane & 3) * 2;
#pragma unroll
  for (int j = 0; j < EQ_TILES_N; j++) {
    int2 start = eq_ldg2(own + j * 8);
    start = {start.x + EQ_SUM_START, start.y + EQ_SUM_START};
#if defined(EQ_SPLITS) && EQ_SPLITS > 1
    if (blockIdx.z) start = {0, 0};
#endif
#pragma unroll
    for (int i = 0; i < EQ_TILES_M; i++) {
      int* four = sums.of[i * EQ_TILES_N + j];
      four[0] = four[2] = start.x, four[1] = four[3] = start.y;
    }
  }
}

EQ_DEV int eq_swizzled(int row, int chunk) {
  const int chunks = EQ_BK / 16;
  return row * EQ_BK + ((chunk ^ (row / (8 / chunks) % chunks)) << 4);
}

EQ_DEV void eq_mma(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#if EQ_WIDE
  eq_mma_16832(c, a, b0, b1);
#else  // the same fragments, a quarter at a time
  eq_mma_8816(c[0], c[1], a[0], b0);
  eq_mma_8816(c[2], c[3], a[1], b0);
  eq_mma_8816(c[0], c[1], a[2], b1);
  eq_mma_8816(c[2], c[3], a[3], b1);
#endif
}

// Adds the products of BK bytes of K of both operands. Of 32 bytes of K, lane l reads with ldmatrix the row l % 16 of 16
// pixels, half l / 16; and the row l % 8 + l / 16 * 8 of 16 channels, half l / 8 % 2.
EQ_DEV void eq_multiply_rows(eq_Sums& sums, const char* a_rows, const char* b_rows) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int pixel = warp % EQ_WARPS_M * EQ_WM + (lane & 15);
  const int channel = warp / EQ_WARPS_M * EQ_WN + (lane & 7) + (lane >> 4) * 8;
#pragma unroll
  for (int chunk = 0; chunk < EQ_USED_BK / 16; chunk += 2) {
    u32 a[EQ_TILES_M][4], b[EQ_TILES_N / 2][4];
#pragma unroll
    for (int i = 0; i < EQ_TILES_M; i++)
      eq_ldmatrix_x4(a[i], a_rows + i * 16 * EQ_BK + eq_swizzled(pixel, chunk + (lane >> 4)));
#pragma unroll
    for (int j = 0; j < EQ_TILES_N / 2; j++)
      eq_ldmatrix_x4(b[j],
                     b_rows + j * 16 * EQ_BK + eq_swizzled(channel, chunk + ((lane >> 3) & 1)));
#pragma unroll
    for (int i = 0; i < EQ_TILES_M; i++)
#pragma unroll
      for (int j = 0; j < EQ_TILES_N; j++)
        eq_mma(sums.of[i * EQ_TILES_N + j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
  }
}

EQ_DEV void eq_multiply(eq_Sums& sums, const char* stage, int) {
  eq_multiply_rows(sums, stage, stage + EQ_A_BYTES);
}

// Requantizes the sums into rows of bytes in shared memory.
EQ_DEV void eq_requantize_tile(char* results, const eq_Sums& sums, const float* scales) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int pixel = warp % EQ_WARPS_M * EQ_WM + (lane >> 2);
  const int channel = warp / EQ_WARPS_M * EQ_WN + (lane & 3) * 2;
#pragma unroll
  for (int j = 0; j < EQ_TILES_N; j++) {
    const int c = channel + j * 8;
    const float2 scale = *(const float2*)(scales + c);
#pragma unroll
    for (int h = 0; h < EQ_TILES_M * 2; h++) {
      const int* pair = sums.of[h / 2 * EQ_TILES_N + j] + h % 2 * 2;
      *(short*)(results + (pixel + h * 8) * EQ_RESULT_PITCH + c) =
          (short)eq_pack2_saturated(eq_rounded(pair[0], scale.x), eq_rounded(pair[1], scale.y), 0);
    }
  }
}

// A thread stores VECTOR channels of a pixel at a time. It fetches the residual addition's others
// before it needs them, where they are few.
#define EQ_STORES_ACROSS (EQ_BN / EQ_VECTOR)
#define EQ_STORES ((EQ_BM * EQ_STORES_ACROSS + EQ_THREADS - 1) / EQ_THREADS)
#define EQ_ARE_OTHERS_AHEAD (EQ_ADD && EQ_STORES <= 4)

// Gives where store i lies among the results, and its pixel and channel; false if there is none.
EQ_DEV bool eq_store_at(int i, int& result, int& m, int& c) {
  const int e = threadIdx.x + i * EQ_THREADS;
  const int row = e / EQ_STORES_ACROSS, column = e % EQ_STORES_ACROSS * EQ_VECTOR;
  result = row * EQ_RESULT_PITCH + column;
  m = blockIdx.x * EQ_BM + row, c = blockIdx.y * EQ_BN + column;
  return row < EQ_BM && m < EQ_PIXELS && c < EQ_Y_C && eq_place(m, c);
}

// Requantizes the sums, finishes and stores them.
EQ_DEV void eq_store_tile(i8* __restrict__ y, char* results, const eq_Sums& sums,
                          const float* scales, const i8* __restrict__ other,
                          const i8* __restrict__ table) {
  u32 ahead[EQ_ARE_OTHERS_AHEAD ? EQ_STORES : 1][EQ_VECTOR_WORDS] = {};
  int at, m, c;
#if EQ_ARE_OTHERS_AHEAD
#pragma unroll
  for (int i = 0; i < EQ_STORES; i++)
    if (eq_store_at(i, at, m, c)) eq_load_others(ahead[i], other + m * EQ_OTHER_PITCH + c);
#endif
  eq_requantize_tile(results, sums, scales);
  __syncthreads();
#pragma unroll 4
  for (int i = 0; i < EQ_STORES; i++) {
    u32(&others)[EQ_VECTOR_WORDS] = ahead[EQ_ARE_OTHERS_AHEAD ? i : 0];
    if (!eq_store_at(i, at, m, c)) continue;
    if (EQ_ADD && !EQ_ARE_OTHERS_AHEAD) eq_load_others(others, other + m * EQ_OTHER_PITCH + c);
    eq_finish_vector(y + m * EQ_Y_PITCH + c, results + at, others, table);
  }
}

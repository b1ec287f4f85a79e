// SOFTMAX of rows of EQ_DEPTH int8, as LiteRT's table-driven kernel: y = round(table[maximum - x] *
// (1 / (sum * SCALE))) + ZERO_POINT, where the sum adds float32 in the order of the row. Another order
// rounds otherwise, so one thread adds a row: about 4 cycles an element that nothing can shorten. All
// else is parallel: EQ_PER_ROW threads look a row up, EQ_ROWS rows of a block are added side by side.
//
// table [256] float32, by maximum - x. Terms lie in shared memory, EQ_CHUNK of a row at a time and
// EQ_PITCH apart, so that four lanes' 16-byte loads never meet in a bank. Zeros fill the last four of
// a row: they leave a sum as it is.

EQ_KERNEL(EQ_THREADS, 1)
void softmax(const i8* __restrict__ x, const float* __restrict__ table, i8* __restrict__ y) {
  constexpr int sizes[] = EQ_SIZES, x_strides[] = EQ_X_STRIDES, y_strides[] = EQ_Y_STRIDES;
  EQ_SMEM(kept_table, 1024);
  EQ_SMEM(kept_terms, EQ_ROWS * EQ_PITCH * 4);
  EQ_SMEM(kept_maxima, EQ_THREADS * 4);
  EQ_SMEM(kept_inverses, EQ_ROWS * 4);
  float *exponentials = (float*)kept_table, *terms = (float*)kept_terms;
  int* maxima = (int*)kept_maxima;
  float* inverses = (float*)kept_inverses;
  const int own = threadIdx.x / EQ_PER_ROW, lane = threadIdx.x % EQ_PER_ROW;
  const int row = blockIdx.x * EQ_ROWS + own;
  const bool is_row = row < EQ_ROW_COUNT;
  x += is_row ? eq_offset(row, sizes, x_strides) : 0;
  y += is_row ? eq_offset(row, sizes, y_strides) : 0;
  for (int i = threadIdx.x; i < 256; i += EQ_THREADS) exponentials[i] = table[i];

  int maximum = -128;
  if (is_row) {
    for (int k = lane; k < EQ_DEPTH; k += EQ_PER_ROW) maximum = max(maximum, eq_ldg_i8(x + k));
  }
  maxima[threadIdx.x] = maximum;
  __syncthreads();
#pragma unroll
  for (int half = EQ_PER_ROW / 2; half > 0; half /= 2) {
    if (lane < half) {
      maxima[threadIdx.x] = max(maxima[threadIdx.x], maxima[threadIdx.x + half]);
    }
    __syncthreads();
  }
  maximum = maxima[own * EQ_PER_ROW];

  float sum = 0;
  for (int base = 0; base < EQ_DEPTH; base += EQ_CHUNK) {
    for (int k = lane; k < EQ_CHUNK; k += EQ_PER_ROW) {
      const bool is_term = is_row && base + k < EQ_DEPTH;
      terms[own * EQ_PITCH + k] =
          is_term ? exponentials[maximum - eq_ldg_i8(x + base + k)] : 0.0f;
    }
    __syncthreads();
    if (threadIdx.x < EQ_ROWS) {
      const float4* added = (const float4*)(terms + threadIdx.x * EQ_PITCH);
#pragma unroll 4
      for (int k = 0; k < min(EQ_CHUNK, EQ_DEPTH - base); k += 4) {
        const float4 four = added[k / 4];
        sum = __fadd_rn(__fadd_rn(__fadd_rn(__fadd_rn(sum, four.x), four.y), four.z), four.w);
      }
    }
    __syncthreads();
  }
  if (threadIdx.x < EQ_ROWS) inverses[threadIdx.x] = __fdiv_rn(1.0f, __fmul_rn(sum, EQ_SCALE));
  __syncthreads();

  if (!is_row) return;
  const float inverse = inverses[own];
  for (int k = lane; k < EQ_DEPTH; k += EQ_PER_ROW) {
    const float v = __fmul_rn(exponentials[maximum - eq_ldg_i8(x + k)], inverse);
    y[k] = (i8)eq_clamp(eq_round_half_up(v) + EQ_ZERO_POINT, -128, 127);
  }
}
EQ_EXPORT(softmax)

// SOFTMAX of long rows of int8, a block for each: as softmax.cu, but the sum of a row in its order is
// put together from 32 pieces that the lanes of one warp prepare side by side, without rounding
// otherwise than one addition after the other does.
//
// While a sum s stays between two powers of two it is a multiple of its unit u = ulp(s), and adding t
// rounds s + t to one: it adds rint(t / u) units, whatever s is, unless t lies in the middle of two
// units. So a lane that guesses the power of two at its piece's start can count the units of the piece
// on its own. The guess is checked when pieces are joined: where the sum does not start and end below
// the same power of two, or a term was in the middle, the piece's terms are added one by one.
//
// table [256] float32, by maximum - x. Pieces of EQ_PIECE terms lie EQ_PIECE + 4 apart in shared
// memory, so that lanes' 16-byte loads spread over the banks; zeros fill the last ones.

struct Piece {
  float low, high;  // s may be counted on where low <= s and s + step < high
  float step, unused;
};

// The sum of the terms before this lane's piece, in any order: only for the guess.
EQ_DEV float sum_before(const float* terms, float* sums, int lane) {
  float own = 0;
#pragma unroll 4
  for (int k = 0; k < EQ_PIECE; k += 4) {
    const float4 four = *(const float4*)(terms + lane * (EQ_PIECE + 4) + k);
    own += (four.x + four.y) + (four.z + four.w);
  }
  sums[lane] = own;
  eq_syncwarp();
  float before = 0;
#pragma unroll
  for (int other = 0; other < 32; other++) before += other < lane ? sums[other] : 0.0f;
  return before;
}

// Count a term in units; false where its rounding depends on the sum.
EQ_DEV bool is_counted(float t, float units_of_one, float& units) {
  const float exact = __fmul_rn(t, units_of_one), whole = rintf(exact);
  units = __fadd_rn(units, whole);
  return fabsf(__fsub_rn(exact, whole)) != 0.5f;
}

// A piece after a sum of about `before`.
EQ_DEV Piece counted(const float* terms, float before) {
  const int exponent = eq_float_bits(before) >> 23;  // biased; of a sum that is not negative
  Piece piece = {0, 0, 0, 0};
  if (exponent < 32) return piece;  // nothing to count in, or units that are no normal numbers
  const float units_of_one = eq_bits_float((277 - exponent) << 23);
  float units = 0;
  bool is_sure = true;
#pragma unroll 4
  for (int k = 0; k < EQ_PIECE; k += 4) {
    const float4 four = *(const float4*)(terms + k);
    is_sure &= is_counted(four.x, units_of_one, units);
    is_sure &= is_counted(four.y, units_of_one, units);
    is_sure &= is_counted(four.z, units_of_one, units);
    is_sure &= is_counted(four.w, units_of_one, units);
  }
  if (!is_sure || units >= 16777216.0f) return piece;  // from 2^24 on a count is not exact
  piece.low = eq_bits_float(exponent << 23);
  piece.high = eq_bits_float((exponent + 1) << 23);
  piece.step = __fmul_rn(units, eq_bits_float((exponent - 23) << 23));
  return piece;
}

EQ_DEV float joined(const Piece* pieces, const float* terms) {
  float sum = 0;
  for (int p = 0; p < 32; p++) {
    const Piece piece = pieces[p];
    const float next = __fadd_rn(sum, piece.step);
    if (sum >= piece.low && next < piece.high) {
      sum = next;
      continue;
    }
#pragma unroll 4
    for (int k = 0; k < EQ_PIECE; k += 4) {
      const float4 four = *(const float4*)(terms + p * (EQ_PIECE + 4) + k);
      sum = __fadd_rn(__fadd_rn(__fadd_rn(__fadd_rn(sum, four.x), four.y), four.z), four.w);
    }
  }
  return sum;
}

EQ_DEV int rounded(float v) {  // v >= 0: a half goes up, as C's roundf
  const int whole = __float2int_rz(v);
  return whole + (__fsub_rn(v, __int2float_rn(whole)) >= 0.5f ? 1 : 0);
}

EQ_DEV int place(int k) { return k + k / EQ_PIECE * 4; }

EQ_KERNEL(EQ_THREADS, 1)
void softmax_pieces(const i8* __restrict__ x, const float* __restrict__ table,
                    i8* __restrict__ y) {
  constexpr int sizes[] = EQ_SIZES, x_strides[] = EQ_X_STRIDES, y_strides[] = EQ_Y_STRIDES;
  EQ_SMEM(kept_table, 1024);
  EQ_SMEM(kept_terms, 32 * (EQ_PIECE + 4) * 4);
  EQ_SMEM(kept_maxima, EQ_THREADS * 4);
  EQ_SMEM(kept_sums, 33 * 4);
  EQ_SMEM(kept_pieces, 32 * 16);
  float *exponentials = (float*)kept_table, *terms = (float*)kept_terms, *sums = (float*)kept_sums;
  int* maxima = (int*)kept_maxima;
  Piece* pieces = (Piece*)kept_pieces;
  const int t = threadIdx.x;
  x += eq_offset(blockIdx.x, sizes, x_strides);
  y += eq_offset(blockIdx.x, sizes, y_strides);
  for (int i = t; i < 256; i += EQ_THREADS) exponentials[i] = table[i];

  int maximum = -128;
  for (int k = t; k < EQ_DEPTH; k += EQ_THREADS) maximum = max(maximum, eq_ldg_i8(x + k));
  maxima[t] = maximum;
  __syncthreads();
#pragma unroll
  for (int half = EQ_THREADS / 2; half > 0; half /= 2) {
    if (t < half) maxima[t] = max(maxima[t], maxima[t + half]);
    __syncthreads();
  }
  maximum = maxima[0];
  for (int k = t; k < 32 * EQ_PIECE; k += EQ_THREADS) {
    terms[place(k)] = k < EQ_DEPTH ? exponentials[maximum - eq_ldg_i8(x + k)] : 0.0f;
  }
  __syncthreads();
  if (t < 32) {
    pieces[t] = counted(terms + t * (EQ_PIECE + 4), sum_before(terms, sums, t));
    eq_syncwarp();
    const float sum = joined(pieces, terms);
    if (t == 0) sums[32] = __fdiv_rn(1.0f, __fmul_rn(sum, EQ_SCALE));
  }
  __syncthreads();
  const float inverse = sums[32];
  for (int k = t; k < EQ_DEPTH; k += EQ_THREADS) {
    const int level = rounded(__fmul_rn(terms[place(k)], inverse)) + EQ_ZERO_POINT;
    y[k] = (i8)eq_clamp(level, -128, 127);
  }
}
EQ_EXPORT(softmax_pieces)

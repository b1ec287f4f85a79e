// The float32 sum of a row in its order, put together from EQ_PIECES pieces of EQ_PIECE terms that the
// lanes of one warp prepare side by side, without rounding otherwise than one addition after the
// other does. EQ_PIECES is 32, or 1 for a row so short that adding is quicker.
//
// While a sum s stays between two powers of two it is a multiple of its unit u = ulp(s), and adding t
// rounds s + t to one: it adds rint(t / u) units, whatever s is, unless t lies in the middle of two
// units. So a lane that guesses the power of two at its piece's start can count the units of the piece
// on its own. The guess is checked when pieces are joined: where the sum does not start and end below
// the same power of two, or a term was in the middle, the piece's terms are added one by one.
//
// Term k lies at eq_place(k) of shared memory, so that lanes' 16-byte loads spread over the banks;
// zeros fill the last piece.

EQ_DEV int eq_place(int k) { return k + k / EQ_PIECE * 4; }
#define EQ_PLACES (EQ_PIECES * (EQ_PIECE + 4))

struct eq_Piece {
  float low, high;  // s may be counted on where low <= s and s + step < high
  float step, unused;
};

// The sum of the terms before this lane's piece, in any order: only for the guess.
EQ_DEV float eq_sum_before(const float* terms, float* sums, int lane) {
  float own = 0;
#pragma unroll 4
  for (int k = 0; k < EQ_PIECE; k += 4) {
    const float4 four = *(const float4*)(terms + eq_place(lane * EQ_PIECE) + k);
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
EQ_DEV bool eq_is_counted(float t, float units_of_one, float& units) {
  const float exact = __fmul_rn(t, units_of_one), whole = rintf(exact);
  units = __fadd_rn(units, whole);
  return fabsf(__fsub_rn(exact, whole)) != 0.5f;
}

// A piece after a sum of about `before`.
EQ_DEV eq_Piece eq_counted(const float* terms, float before) {
  const int exponent = eq_float_bits(before) >> 23;  // biased; of a sum that is not negative
  eq_Piece piece = {0, 0, 0, 0};
  if (exponent < 32) return piece;  // nothing to count in, or units that are no normal numbers
  const float units_of_one = eq_bits_float((277 - exponent) << 23);
  float units = 0;
  bool is_sure = true;
#pragma unroll 4
  for (int k = 0; k < EQ_PIECE; k += 4) {
    const float4 four = *(const float4*)(terms + k);
    is_sure &= eq_is_counted(four.x, units_of_one, units);
    is_sure &= eq_is_counted(four.y, units_of_one, units);
    is_sure &= eq_is_counted(four.z, units_of_one, units);
    is_sure &= eq_is_counted(four.w, units_of_one, units);
  }
  if (!is_sure || units >= 16777216.0f) return piece;  // from 2^24 on a count is not exact
  piece.low = eq_bits_float(exponent << 23);
  piece.high = eq_bits_float((exponent + 1) << 23);
  piece.step = __fmul_rn(units, eq_bits_float((exponent - 23) << 23));
  return piece;
}

EQ_DEV float eq_joined(const eq_Piece* pieces, const float* terms) {
  float sum = 0;
  for (int p = 0; p < EQ_PIECES; p++) {
    const eq_Piece piece = pieces[p];
    const float next = __fadd_rn(sum, piece.step);
    if (sum >= piece.low && next < piece.high) {
      sum = next;
      continue;
    }
#pragma unroll 4
    for (int k = 0; k < EQ_PIECE; k += 4) {
      const float4 four = *(const float4*)(terms + eq_place(p * EQ_PIECE) + k);
      sum = __fadd_rn(__fadd_rn(__fadd_rn(__fadd_rn(sum, four.x), four.y), four.z), four.w);
    }
  }
  return sum;
}

// By all lanes of one warp, each of which gets the sum.
EQ_DEV float eq_ordered_sum(const float* terms, int lane) {
  EQ_SMEM(kept_pieces, EQ_PIECES * 16);
  EQ_SMEM(kept_sums, 32 * 4);
  eq_Piece* pieces = (eq_Piece*)kept_pieces;
#if EQ_PIECES > 1
  const float before = eq_sum_before(terms, (float*)kept_sums, lane);
  pieces[lane] = eq_counted(terms + eq_place(lane * EQ_PIECE), before);
#else
  const eq_Piece uncounted = {0, 0, 0, 0};
  if (lane == 0) pieces[0] = uncounted;
#endif
  eq_syncwarp();
  return eq_joined(pieces, terms);
}

// The epilogue of every kernel with an int32 accumulator: bias, requantization, residual addition,
// table, and where the result is stored. binding/epilogue.py gives its macros.

// A sum that is known to stay under 2^22 may be begun at 0x4B400000: its bits are then those of the
// float 1.5 * 2^23 + sum, from which the sum as a float is one addition at full rate away (a conversion
// has a quarter of it).
#if defined(EQ_SUM_IS_SMALL) && EQ_SUM_IS_SMALL
#define EQ_SUM_START 0x4B400000
EQ_DEV float eq_sum_as_float(int sum) { return __fadd_rn(eq_bits_float(sum), -12582912.0f); }
#else
#define EQ_SUM_START 0
EQ_DEV float eq_sum_as_float(int sum) { return __int2float_rn(sum); }
#endif

// Four biases, as sums begin that are completed by them at the end.
EQ_DEV int4 eq_biases(const int* bias) {
  const int4 v = eq_ldg4(bias);
  return {v.x + EQ_SUM_START, v.y + EQ_SUM_START, v.z + EQ_SUM_START, v.w + EQ_SUM_START};
}

// Its first half, saturated only to what is less than int8; the sum holds EQ_SUM_START and the bias.
// To clamp after rounding is the same as before, and eq_rint can round what is known to stay small.
EQ_DEV int eq_rounded(int sum, float scale) {
  float v = __fmul_rn(eq_sum_as_float(sum), scale);
#if !defined(EQ_RESULT_IS_SMALL) || !EQ_RESULT_IS_SMALL
  v = fminf(fmaxf(v, (float)(EQ_RESULT_LOW - EQ_RESULT_ZERO_POINT)),
            (float)(EQ_RESULT_HIGH - EQ_RESULT_ZERO_POINT));
  return eq_rint(v) + EQ_RESULT_ZERO_POINT;
#else
  int rounded = eq_rint(v) + EQ_RESULT_ZERO_POINT;
  if (EQ_RESULT_LOW > -128) rounded = max(rounded, EQ_RESULT_LOW);
  if (EQ_RESULT_HIGH < 127) rounded = min(rounded, EQ_RESULT_HIGH);
  return rounded;
#endif
}
EQ_DEV int eq_result(int sum, float scale) {
  return eq_clamp(eq_rounded(sum, scale), EQ_RESULT_LOW, EQ_RESULT_HIGH);
}

// Its second half: `other` is b of the residual addition, unused without EQ_ADD, `table` unused
// without EQ_TABLE; it is looked up after the addition, or before it with EQ_IS_TABLE_FIRST. The sum
// is saturated only to what is less than int8.
EQ_DEV int eq_added(int v, int other) {
#if EQ_ADD
  v = (v * EQ_ADD_A_FACTOR + other * EQ_ADD_B_FACTOR + EQ_ADD_BIAS) >> EQ_ADD_SHIFT;
  v += EQ_ADD_ZERO_POINT;
  if (EQ_ADD_LOW > -128) v = max(v, EQ_ADD_LOW);
  if (EQ_ADD_HIGH < 127) v = min(v, EQ_ADD_HIGH);
#endif
  return v;
}
EQ_DEV int eq_looked_up(int v, const i8* __restrict__ table) {
  return EQ_TABLE ? eq_ldg_i8(table + v + 128) : v;
}

EQ_DEV int eq_before_addition(int v, const i8* __restrict__ table) {
  return EQ_IS_TABLE_FIRST ? eq_looked_up(v, table) : v;
}
EQ_DEV int eq_after_addition(int v, const i8* __restrict__ table) {
  return EQ_IS_TABLE_FIRST ? v : eq_looked_up(v, table);
}

EQ_DEV int eq_finish(int v, int other, const i8* __restrict__ table) {
  const int sum = eq_clamp(eq_added(eq_before_addition(v, table), other), -128, 127);
  return eq_after_addition(sum, table);
}
EQ_DEV u32 eq_finish4(u32 v, u32 other, const i8* __restrict__ table) {
  const int a = eq_added(eq_before_addition(eq_byte<0>(v), table), eq_byte<0>(other));
  const int b = eq_added(eq_before_addition(eq_byte<1>(v), table), eq_byte<1>(other));
  const int c = eq_added(eq_before_addition(eq_byte<2>(v), table), eq_byte<2>(other));
  const int d = eq_added(eq_before_addition(eq_byte<3>(v), table), eq_byte<3>(other));
  const u32 sum = eq_pack2_saturated(a, b, eq_pack2_saturated(c, d, 0));
  if (!EQ_TABLE || EQ_IS_TABLE_FIRST) return sum;
  return eq_pack4(eq_looked_up(eq_byte<0>(sum), table), eq_looked_up(eq_byte<1>(sum), table),
                  eq_looked_up(eq_byte<2>(sum), table), eq_looked_up(eq_byte<3>(sum), table));
}

EQ_DEV int eq_epilogue(int acc, float scale, int other, const i8* __restrict__ table) {
  return eq_finish(eq_result(acc, scale), other, table);
}

// Says whether y has channel c of pixel m, and turns both into its own: of a convolution that stands
// for a transposed one each channel is one of the PHASES_H x PHASES_W pixels of y that lie together;
// strips cut rows of y into pieces of one length.
#ifdef EQ_PHASES_H
EQ_DEV bool eq_place(int& m, int& c) {
  const int phase = c / EQ_PHASE_C, image = m / (EQ_Y_H * EQ_Y_W);
  const int h = m / EQ_Y_W % EQ_Y_H * EQ_PHASES_H + phase / EQ_PHASES_W + EQ_OFFSET_H;
  const int w = m % EQ_Y_W * EQ_PHASES_W + phase % EQ_PHASES_W + EQ_OFFSET_W;
  m = (image * EQ_STORED_H + h) * EQ_STORED_W + w;
  c %= EQ_PHASE_C;
  return (u32)h < EQ_STORED_H && (u32)w < EQ_STORED_W && c < EQ_STORED_C;
}
#elif defined(EQ_STRIPS)  // rows of y in strips of TILE_W pixels, the last of a row not full
#define EQ_STORED_C EQ_Y_C
EQ_DEV bool eq_place(int& m, int&) {
  const int line = m / (EQ_STRIPS * EQ_TILE_W), w = m % (EQ_STRIPS * EQ_TILE_W);
  m = line * EQ_Y_W + w;
  return w < EQ_Y_W;
}
#else
#define EQ_STORED_C EQ_Y_C
EQ_DEV bool eq_place(int&, int&) { return true; }
#endif

// The plain end of an accumulator that one thread holds: pixel m, channel c. Pixels lie EQ_Y_PITCH
// elements apart, those of the residual addition's other value EQ_OTHER_PITCH.
EQ_DEV void eq_store_result(i8* __restrict__ y, int m, int c, int acc, const int* __restrict__ bias,
                            const float* __restrict__ scale, const i8* __restrict__ other,
                            const i8* __restrict__ table) {
  acc += bias[c];
  const float factor = scale[c];
  if (!eq_place(m, c)) return;
  int b = EQ_ADD ? eq_ldg_i8(other + m * EQ_OTHER_PITCH + c) : 0;
  y[m * EQ_Y_PITCH + c] = (i8)eq_epilogue(acc, factor, b, table);
}

// EQ_VECTOR channels of the residual addition's other value, and what becomes of as many results.
#define EQ_VECTOR_WORDS ((EQ_VECTOR + 3) / 4)
EQ_DEV void eq_load_others(u32 (&others)[EQ_VECTOR_WORDS], const i8* __restrict__ from) {
#if EQ_VECTOR >= 4
  eq_load_words(others, from);
#else
  others[0] = (u8)eq_ldg_i8(from);
  if (EQ_VECTOR == 2) others[0] |= (u8)eq_ldg_i8(from + 1) << 8;
#endif
}
EQ_DEV void eq_finish_vector(i8* __restrict__ y, const void* results,
                             const u32 (&others)[EQ_VECTOR_WORDS],
                             const i8* __restrict__ table) {
#if EQ_VECTOR >= 4
  u32 words[EQ_VECTOR_WORDS];
#pragma unroll
  for (int i = 0; i < EQ_VECTOR_WORDS; i++) {
    words[i] = ((const u32*)results)[i];
    if (EQ_ADD || EQ_TABLE) words[i] = eq_finish4(words[i], others[i], table);
  }
  eq_store_words(y, words);
#else
  y[0] = (i8)eq_finish(((const i8*)results)[0], eq_byte<0>(others[0]), table);
  if (EQ_VECTOR == 2) y[1] = (i8)eq_finish(((const i8*)results)[1], eq_byte<1>(others[0]), table);
#endif
}

// The epilogue of four channels that are read and written at once; bits of floats in scale.
EQ_DEV u32 eq_epilogue4(int4 acc, int4 bias, int4 scale, u32 other, const i8* __restrict__ table) {
  const u32 upper = eq_pack2_saturated(eq_rounded(acc.z + bias.z, eq_bits_float(scale.z)),
                                       eq_rounded(acc.w + bias.w, eq_bits_float(scale.w)), 0);
  const u32 v = eq_pack2_saturated(eq_rounded(acc.x + bias.x, eq_bits_float(scale.x)),
                                   eq_rounded(acc.y + bias.y, eq_bits_float(scale.y)), upper);
  return EQ_ADD || EQ_TABLE ? eq_finish4(v, other, table) : v;
}

// The same of sums that hold their biases, wherever EQ_VECTOR allows it, up to the last channel.
EQ_DEV void eq_store_four(i8* __restrict__ y, int m, int c, int4 sums, int4 scales,
                          const i8* __restrict__ other, const i8* __restrict__ table) {
  const int4 none = {0, 0, 0, 0};
  if (!eq_place(m, c)) return;
  i8* to = y + m * EQ_Y_PITCH + c;
  other += m * EQ_OTHER_PITCH + c;
#if EQ_VECTOR >= 4
  eq_st1(to, (int)eq_epilogue4(sums, none, scales, EQ_ADD ? eq_ldg1(other) : 0, table));
#else
  const int sum[4] = {sums.x, sums.y, sums.z, sums.w};
  const int scale[4] = {scales.x, scales.y, scales.z, scales.w};
#pragma unroll
  for (int k = 0; k < 4; k++)
    if (c + k < EQ_STORED_C)
      to[k] = (i8)eq_epilogue(sum[k], eq_bits_float(scale[k]), EQ_ADD ? eq_ldg_i8(other + k) : 0,
                              table);
#endif
}

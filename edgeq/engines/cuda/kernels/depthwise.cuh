// The sums of a depthwise convolution: TILE_H x TILE_W outputs of four channels a thread.
//
// x [N, X_H, X_W, X_C] int8, pixels X_PITCH apart; positions outside x hold ZERO_POINT. A row of x that several outputs of a tile see is loaded and prepared
// once. With dilation (at stride 1) a tile's outputs lie a dilation apart, and so see the same grid
// of columns as without.
//
// DP4A: weights [KH, WORDS, X_C up to a multiple of 4] words, each four taps of one channel along
// the width (zeros beyond KW). A dp4a wants four taps of one channel in a word, memory has four
// channels of one pixel there: 4x4 byte transposes by prmt turn groups of four columns, GROUP_STEP
// columns apart. One group serves every output whose taps begin in it: the weights are shifted by
// whole bytes to where they belong. A 3x3 at stride 1 so takes 96 instructions for 144 products.
//
// Otherwise (sm_53 and sm_62 emulate dp4a in some 6 instructions): weights [KH, KW, X_C up to a
// multiple of 4] float32, and float32 sums, exact while no sum exceeds 2^24 = 128 * 128 * 1024 taps.

#define EQ_STEP_H (EQ_STRIDE_H == 1 ? EQ_DILATION_H : 1)  // between a tile's outputs
#define EQ_STEP_W (EQ_STRIDE_W == 1 ? EQ_DILATION_W : 1)
#define EQ_SPANS_H ((EQ_Y_H + EQ_STEP_H * EQ_TILE_H - 1) / (EQ_STEP_H * EQ_TILE_H))
#define EQ_SPANS_W ((EQ_Y_W + EQ_STEP_W * EQ_TILE_W - 1) / (EQ_STEP_W * EQ_TILE_W))
#define EQ_TILES_H (EQ_STEP_H * EQ_SPANS_H)
#define EQ_TILES_W (EQ_STEP_W * EQ_SPANS_W)
#define EQ_QUADS ((EQ_X_C + 3) / 4)
#define EQ_ROWS ((EQ_TILE_H - 1) * EQ_STRIDE_H + EQ_KH)     // that a tile sees
#define EQ_COLUMNS ((EQ_TILE_W - 1) * EQ_STRIDE_W + EQ_KW)

// Whether no tile looks outside x, so that nothing need be asked.
#define EQ_REACH_H (((EQ_SPANS_H * EQ_TILE_H - 1) * EQ_STRIDE_H + EQ_KH) * EQ_DILATION_H)
#define EQ_REACH_W (((EQ_SPANS_W * EQ_TILE_W - 1) * EQ_STRIDE_W + EQ_KW) * EQ_DILATION_W)
#define EQ_INSIDE_H (EQ_BEFORE_H == 0 && EQ_REACH_H <= EQ_X_H)
#define EQ_INSIDE_W (EQ_BEFORE_W == 0 && EQ_REACH_W <= EQ_X_W)

#if EQ_DP4A
#define EQ_TAP_WORDS ((EQ_KW + 3) / 4)
#define EQ_GROUPS ((EQ_COLUMNS + EQ_GROUP_STEP - 1) / EQ_GROUP_STEP)
#define EQ_LOADED_COLUMNS ((EQ_GROUPS - 1) * EQ_GROUP_STEP + 4)
typedef int Sum;
struct Seen {
  u32 groups[EQ_GROUPS][4];  // four columns of one channel in each
};
struct Taps {
  int words[EQ_TAP_WORDS][4];
};

EQ_DEV void depthwise_prepare(Seen& seen, const u32 (&columns)[EQ_LOADED_COLUMNS]) {
#pragma unroll
  for (int g = 0; g < EQ_GROUPS; g++) {
    const u32 a = columns[g * EQ_GROUP_STEP], b = columns[g * EQ_GROUP_STEP + 1];
    const u32 c = columns[g * EQ_GROUP_STEP + 2], d = columns[g * EQ_GROUP_STEP + 3];
    const u32 ab_low = eq_prmt(a, b, 0x5140), ab_high = eq_prmt(a, b, 0x7362);
    const u32 cd_low = eq_prmt(c, d, 0x5140), cd_high = eq_prmt(c, d, 0x7362);
    seen.groups[g][0] = eq_prmt(ab_low, cd_low, 0x5410);
    seen.groups[g][1] = eq_prmt(ab_low, cd_low, 0x7632);
    seen.groups[g][2] = eq_prmt(ab_high, cd_high, 0x5410);
    seen.groups[g][3] = eq_prmt(ab_high, cd_high, 0x7632);
  }
}

EQ_DEV void depthwise_load_taps(Taps& taps, const int* weights, int row, int c) {
#pragma unroll
  for (int q = 0; q < EQ_TAP_WORDS; q++) {
    const int4 w = eq_ldg4(weights + (row * EQ_TAP_WORDS + q) * EQ_QUADS * 4 + c);
    taps.words[q][0] = w.x, taps.words[q][1] = w.y, taps.words[q][2] = w.z, taps.words[q][3] = w.w;
  }
}

// Word `q` of channel v's taps where they begin `shift` bytes into a group.
EQ_DEV int depthwise_shifted(const Taps& taps, int q, int v, int shift) {
  const u32 here = q < EQ_TAP_WORDS ? (u32)taps.words[q < EQ_TAP_WORDS ? q : 0][v] << (8 * shift) : 0;
  if (q == 0 || shift == 0) return (int)here;
  return (int)(here | (u32)taps.words[q - 1][v] >> (32 - 8 * shift));
}

// Adds what one row of taps sees in one row of x to a row of the tile's outputs.
EQ_DEV void depthwise_add(Sum (&sums)[EQ_TILE_W][4], const Seen& seen, const Taps& taps) {
#pragma unroll
  for (int i = 0; i < EQ_TILE_W; i++) {
    const int shift = i * EQ_STRIDE_W % EQ_GROUP_STEP;
#pragma unroll
    for (int q = 0; q <= EQ_TAP_WORDS; q++) {
      if (4 * q - shift >= EQ_KW) continue;
      const int g = i * EQ_STRIDE_W / EQ_GROUP_STEP + q * (4 / EQ_GROUP_STEP);
#pragma unroll
      for (int v = 0; v < 4; v++)
        sums[i][v] = eq_dp4a((int)seen.groups[g < EQ_GROUPS ? g : 0][v],
                             depthwise_shifted(taps, q, v, shift), sums[i][v]);
    }
  }
}
#else
#define EQ_LOADED_COLUMNS EQ_COLUMNS
typedef float Sum;
struct Seen {
  float columns[EQ_COLUMNS][4];
};
struct Taps {
  float taps[EQ_KW][4];
};

// A byte b with its sign flipped, below the exponent of 2^23, is 2^23 + 128 + b: a prmt and an
// addition at full rate, where a conversion runs at a quarter of it.
EQ_DEV float depthwise_float(u32 flipped, int v) {
  return eq_bits_float((int)eq_prmt(flipped, 0x4B000000u, 0x7440u + v)) - 8388736.0f;
}

EQ_DEV void depthwise_prepare(Seen& seen, const u32 (&columns)[EQ_LOADED_COLUMNS]) {
#pragma unroll
  for (int j = 0; j < EQ_COLUMNS; j++)
#pragma unroll
    for (int v = 0; v < 4; v++)
      seen.columns[j][v] = depthwise_float(columns[j] ^ 0x80808080u, v);
}

EQ_DEV void depthwise_load_taps(Taps& taps, const int* weights, int row, int c) {
#pragma unroll
  for (int j = 0; j < EQ_KW; j++) {
    const int4 w = eq_ldg4(weights + (row * EQ_KW + j) * EQ_QUADS * 4 + c);
    taps.taps[j][0] = eq_bits_float(w.x), taps.taps[j][1] = eq_bits_float(w.y);
    taps.taps[j][2] = eq_bits_float(w.z), taps.taps[j][3] = eq_bits_float(w.w);
  }
}

EQ_DEV void depthwise_add(Sum (&sums)[EQ_TILE_W][4], const Seen& seen, const Taps& taps) {
#pragma unroll
  for (int i = 0; i < EQ_TILE_W; i++)
#pragma unroll
    for (int j = 0; j < EQ_KW; j++)
#pragma unroll
      for (int v = 0; v < 4; v++)
        sums[i][v] += seen.columns[i * EQ_STRIDE_W + j][v] * taps.taps[j][v];
}
#endif

// Four channels of one pixel from channel c on.
EQ_DEV u32 depthwise_load(const i8* p, int c) {
#if EQ_LOAD_BYTES >= 4
  return (u32)eq_ldg1(p);
#else
  u32 word = 0;
#pragma unroll
  for (int v = 0; v < 4; v++)
    if (c + v < EQ_X_C) word |= (u32)(eq_ldg_i8(p + v) & 255) << (8 * v);
  return word;
#endif
}

// One row of what the tile sees; p may lie outside x where `inside` is false.
EQ_DEV void depthwise_see(Seen& seen, const i8* p, bool inside, int left, int c) {
  u32 columns[EQ_LOADED_COLUMNS];
#pragma unroll
  for (int j = 0; j < EQ_LOADED_COLUMNS; j++) {
    const bool held = EQ_INSIDE_W || (u32)(left + j * EQ_DILATION_W) < EQ_X_W;
    columns[j] = (u32)eq_splat4(EQ_ZERO_POINT);
    if (j < EQ_COLUMNS && inside && held)
      columns[j] = depthwise_load(p + j * EQ_DILATION_W * EQ_X_PITCH, c);
  }
  depthwise_prepare(seen, columns);
}

// The sums of the tile whose first output is (oh, ow) of image n, channels c to c + 3. They begin at
// `start`, but for floats, which it is added to at the end.
EQ_DEV void depthwise_sum(Sum (&sums)[EQ_TILE_H][EQ_TILE_W][4], const i8* x, const int* weights,
                          int4 start, int n, int oh, int ow, int c) {
  const int top = oh * EQ_STRIDE_H - EQ_BEFORE_H, left = ow * EQ_STRIDE_W - EQ_BEFORE_W;
  const i8* corner = x + ((n * EQ_X_H + top) * EQ_X_W + left) * EQ_X_PITCH + c;
#pragma unroll
  for (int i = 0; i < EQ_TILE_H * EQ_TILE_W; i++) {
    Sum* four = sums[i / EQ_TILE_W][i % EQ_TILE_W];
    four[0] = EQ_DP4A ? start.x : 0, four[1] = EQ_DP4A ? start.y : 0;
    four[2] = EQ_DP4A ? start.z : 0, four[3] = EQ_DP4A ? start.w : 0;
  }
#pragma unroll
  for (int row = 0; row < EQ_ROWS; row++) {
    Seen seen;
    const bool inside = EQ_INSIDE_H || (u32)(top + row * EQ_DILATION_H) < EQ_X_H;
    depthwise_see(seen, corner + row * EQ_DILATION_H * EQ_X_W * EQ_X_PITCH, inside, left, c);
#pragma unroll
    for (int k = 0; k < EQ_TILE_H; k++) {
      const int i = row - k * EQ_STRIDE_H;  // which row of taps the tile's row k has here
      if (i < 0 || i >= EQ_KH) continue;
      Taps taps;
      depthwise_load_taps(taps, weights, i, c);
      depthwise_add(sums[k], seen, taps);
    }
  }
}

EQ_DEV int4 depthwise_whole(const Sum (&sums)[4], int4 start) {
  const int4 whole = {(int)sums[0], (int)sums[1], (int)sums[2], (int)sums[3]};
  if (EQ_DP4A) return whole;
  return {whole.x + start.x, whole.y + start.y, whole.z + start.z, whole.w + start.w};
}
